%% A TLS front of a broker in Erlang, as small as it can be: what EMQX's TLS listener does,
%% without the MQTT. One process accepts and hands on; each connection is one process,
%% which gets the bytes of both sides as messages.
%%
%% Usage: escript erlang_gateway.erl CONFIG, a file of terms such as bench/peers/erlang.config.
-module(erlang_gateway).
-mode(compile).
-export([main/1, relay/2]).

%% As many as esockd, EMQX's acceptor pool, has.
-define(ACCEPTORS, 16).
%% Messages of a socket before its owner has to ask for more, as in EMQX.
-define(ACTIVE, 100).
-define(HANDSHAKE_TIMEOUT, 15000).
-define(HIBERNATE_AFTER, 5000).

main([Config]) ->
    {ok, Terms} = file:consult(Config),
    {ok, _} = application:ensure_all_started(ssl),
    insert_crl(proplists:get_value(crl, Terms)),
    {ok, Listener} = ssl:listen(proplists:get_value(port, Terms), proplists:get_value(tls, Terms)),
    BrokerPort = proplists:get_value(broker_port, Terms),
    [spawn_link(fun() -> accept(Listener, BrokerPort) end) || _ <- lists:seq(1, ?ACCEPTORS)],
    receive
    after infinity -> ok
    end.

insert_crl(undefined) -> ok;
insert_crl(File) -> ok = ssl_crl_cache:insert({file, File}).

accept(Listener, BrokerPort) ->
    {ok, Socket} = ssl:transport_accept(Listener),
    %% The owner of a TLS socket may give it away before the handshake only.
    Connection = spawn(fun() -> receive served -> serve(Socket, BrokerPort) end end),
    case ssl:controlling_process(Socket, Connection) of
        ok -> Connection ! served;
        {error, _Closed} -> exit(Connection, kill)
    end,
    accept(Listener, BrokerPort).

serve(Socket, BrokerPort) ->
    case ssl:handshake(Socket, ?HANDSHAKE_TIMEOUT) of
        {ok, Client} -> connect(Client, BrokerPort);
        {error, _Refused} -> ok
    end.

connect(Client, BrokerPort) ->
    case gen_tcp:connect({127, 0, 0, 1}, BrokerPort, [binary, {active, ?ACTIVE}, {nodelay, true}]) of
        {ok, Broker} ->
            ok = ssl:setopts(Client, [{active, ?ACTIVE}]),
            relay(Client, Broker);
        {error, _Reason} ->
            ssl:close(Client)
    end.

%% A function of the module, so that a hibernating process can wake up in it.
relay(Client, Broker) ->
    receive
        {ssl, Client, Data} -> proceed(gen_tcp:send(Broker, Data), Client, Broker);
        {tcp, Broker, Data} -> proceed(ssl:send(Client, Data), Client, Broker);
        {ssl_passive, Client} -> proceed(ssl:setopts(Client, [{active, ?ACTIVE}]), Client, Broker);
        {tcp_passive, Broker} -> proceed(inet:setopts(Broker, [{active, ?ACTIVE}]), Client, Broker);
        _ClosedOrError -> close(Client, Broker)
    after ?HIBERNATE_AFTER -> erlang:hibernate(?MODULE, relay, [Client, Broker])
    end.

proceed(ok, Client, Broker) -> relay(Client, Broker);
proceed({error, _Reason}, Client, Broker) -> close(Client, Broker).

close(Client, Broker) ->
    gen_tcp:close(Broker),
    ssl:close(Client).
