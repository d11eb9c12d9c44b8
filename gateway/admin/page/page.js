// The status page: asks /status, /history and /revoked, and draws what they say.
//
// What stands in a certificate or a URL is foreign: it only ever becomes text (`text`, in a
// <bdi>, so that it cannot turn the direction of what is around it), never markup. The
// page's Content-Security-Policy has trusted types required and would not let it.
"use strict";

const $ = (id) => document.getElementById(id);
const CSRF = document.querySelector("meta[name=csrf-token]").content;
// Absolute, without the user name and password that this page's own URL may have.
const url = (path) => new URL(path, location.origin).href;
const STATUS_EVERY = 5000;
const HISTORY_EVERY = 10000;
const MOST_SHOWN = 100;

// --- asking ---

async function get(path) {
  const answer = await fetch(url(path), { cache: "no-store" });
  const body = await answer.json().catch(() => ({ lines: [`${path}: ${answer.status} ${answer.statusText}`] }));
  if (!answer.ok) throw new Error(body.lines.join("\n"));
  return body;
}

async function post(path, body) {
  const answer = await fetch(url(path), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": CSRF },
    body: JSON.stringify(body),
  });
  const said = await answer.text();
  let lines;
  try { lines = JSON.parse(said).lines; } catch { lines = [said.trim() || answer.statusText]; }
  toast(lines.join("\n"), !answer.ok);
  return answer.ok;
}

let toastTimer;
function toast(message, bad) {
  $("toast").textContent = message;
  $("toast").className = bad ? "bad" : "";
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").textContent = ""; }, bad ? 15000 : 6000);
}

// --- making and keeping elements ---

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { label, ...rest } = properties;
  Object.assign(element, rest);
  if (label !== undefined) element.setAttribute("aria-label", label);
  element.append(...children);
  return element;
}

const foreign = (value) => make("bdi", { textContent: value });

function set(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

// Make the children of `parent` those of `items`; one that stays keeps its element, and with it the focus.
const kept = new WeakMap();
function sync(parent, items, key, build, update) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    if (after.has(id)) continue;
    const entry = before.get(id) ?? build(item);
    after.set(id, entry);
    update(entry, item);
    if (entry.node === place) place = place.nextSibling;
    else parent.insertBefore(entry.node, place);
  }
  for (const [id, entry] of before) if (!after.has(id)) entry.node.remove();
  kept.set(parent, after);
}

// A row: a name, things at its end, a bar, facts, an error.
function row() {
  const parts = {
    name: make("span", { className: "name" }),
    pill: make("span", { className: "pill" }),
    fill: make("span"),
    facts: make("span", { className: "facts" }),
    error: make("span", { className: "error" }),
  };
  parts.end = make("span", { className: "end" }, parts.pill);
  parts.bar = make("span", { className: "bar" }, parts.fill);
  parts.bar.setAttribute("role", "meter");
  parts.bar.setAttribute("aria-valuemin", "0");
  parts.bar.setAttribute("aria-valuemax", "100");
  parts.node = make("li", {}, parts.name, parts.end, parts.bar, parts.facts, parts.error);
  return parts;
}

function fill(parts, share, level, label, words) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, share)));
  parts.fill.style.width = `${percent}%`;
  parts.bar.className = `bar ${level}`;
  parts.bar.setAttribute("aria-label", label);
  parts.bar.setAttribute("aria-valuenow", percent);
  parts.bar.setAttribute("aria-valuetext", words);
}

function pill(element, word, level) {
  set(element, word);
  element.className = `pill ${level}`;
}

// --- words ---

const number = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function span(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const count = Math.floor(rest / size);
    rest %= size;
    if (count || (unit === "s" && !parts.length)) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count.toFixed(unit && count < 10 ? 1 : 0)} ${units[unit]}`;
}

const date = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ") + " UTC";
const many = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
const left = (end, now) => (end > now ? `${span(end - now)} left` : `ended ${span(now - end)} ago`);
const level = (share) => (share >= 1 ? "bad" : share >= 0.9 ? "warn" : "");

// --- the status ---

let status = null;
let answered = 0;

function draw(now) {
  set($("version"), now.version);
  pill($("ready"), now.ready ? "Ready" : "Not ready", now.ready ? "good" : "bad");
  document.title = `${now.ready ? "" : "● Not ready · "}tls-gateway`;
  sync($("notices"), [...now.reasons.map((words) => ["bad", words]), ...now.warnings.map((words) => ["", words])],
    (each) => each.join(" "), ([kind, words]) => ({ node: make("li", { className: kind }, foreign(words)) }), () => {});
  drawTiles(now);
  sync($("listeners"), now.listeners, (each) => each.name, row, drawListener);
  const sources = (kind) => now.sources.filter((each) => each.kind === kind);
  const key = (each) => [each.url, each.subject, each.serial].join(" ");
  // Of hundreds of lists, those that need somebody come first.
  const need = (each) => (each.condition !== "in force" || each.revoked ? 0 : each.last_error !== null ? 1 : 2);
  sync($("lists"), sources("list").sort((a, b) => need(a) - need(b)), key, sourceRow, drawSource);
  sync($("staples"), sources("staple"), key, sourceRow, drawSource);
  $("responders-card").hidden = now.responders.length === 0;
  sync($("responders"), now.responders, (each) => each.url, row, drawResponder);
  sync($("certificates"), now.certificates, (each) => [each.listener, each.use, each.subject, each.serial].join(" "), row, drawCertificate);
  for (const [id, words] of [["lists", "No list is fetched."], ["staples", "Nothing is stapled."]]) empty(id, words);
  const select = $("search").elements.issuer;
  sync(select, ["", ...now.issuers], (name) => name, (name) => ({
    node: make("option", { value: name, textContent: name || "Any known CA" }) }), () => {});
}

function empty(id, words) {
  const list = $(id);
  let hint = list.parentElement.querySelector(":scope > .empty");
  if (!hint) list.after(hint = make("p", { className: "empty", textContent: words }));
  hint.hidden = list.children.length > 0;
}

function drawTiles(now) {
  const t = now.totals;
  const refused = t.refused_revoked + t.refused_no_list + t.refused_stale + t.refused_no_answer;
  const share = t.handshakes ? `${Math.round((100 * t.resumed) / t.handshakes)} % resumed` : "none yet";
  const tiles = [
    ["Live connections", number.format(t.live), `${number.format(t.handshaking)} in handshake`],
    ["Handshakes", short.format(t.handshakes), share],
    ["Refused", number.format(refused), `${number.format(t.refused_revoked)} revoked, ${number.format(t.disconnected)} cut off`],
    ["Looked up", short.format(t.lookups), `${number.format(t.failed + t.timed_out)} handshakes failed`],
    ["Relayed", bytes(t.bytes_in + t.bytes_out), `${bytes(t.bytes_in)} in, ${bytes(t.bytes_out)} out`],
    ["Workers", number.format(now.workers), `${many(now.worker_restarts, "restart")}, up ${span(now.now - now.started)}`],
  ];
  sync($("tiles"), tiles, (each) => each[0], ([title]) => {
    const value = make("dd");
    const more = make("dd");
    return { node: make("div", {}, make("dt", { textContent: title }), value, more), value, more };
  }, (entry, [, value, more]) => { set(entry.value, value); set(entry.more, more); });
}

function drawListener(parts, each) {
  if (!parts.name.firstChild) parts.name.append(foreign(`${each.name}  ${each.bind.join("  ")}`));
  const share = each.connections / each.max_connections;
  pill(parts.pill, `${number.format(each.connections)} live`, level(share));
  fill(parts, share, level(share), "Connections of the limit", `${each.connections} of ${each.max_connections}`);
  set(parts.facts, `of ${number.format(each.max_connections)} · client certificates ${each.verify} · checks ${each.check} · without a list ${each.on_unavailable}${each.stapling ? " · staples" : ""}`);
  const checked = each.brokers.filter((broker) => broker.up !== null);
  const down = checked.filter((broker) => !broker.up);
  if (checked.length) parts.facts.append(` · brokers ${checked.length - down.length} of ${checked.length} up`);
  set(parts.error, down.map((broker) => `broker ${broker.address} is down`).join(", "));
}

function sourceRow(each) {
  const parts = row();
  parts.name.append(foreign(each.url));
  const button = make("button", { type: "button", className: "small", textContent: "Fetch now", label: `Fetch now: ${each.url}` });
  button.addEventListener("click", () => busy(button, () => post("/refresh", { url: each.url })));
  parts.end.append(button);
  return parts;
}

function drawSource(parts, each) {
  const now = status.now;
  const good = each.condition === "in force" && !each.revoked;
  const fresh = good && each.last_error === null;
  pill(parts.pill, each.revoked ? "revoked" : each.condition, good ? (fresh ? "good" : "warn") : "bad");
  const whole = each.next_update !== null && each.this_update !== null;
  const share = whole ? (now - each.this_update) / (each.next_update - each.this_update) : each.this_update === null ? 1 : 0;
  const facts = [];
  if (each.subject) facts.push(`for ${each.subject} (serial ${each.serial})`);
  if (each.entries !== null) facts.push(each.entries === 1 ? "1 entry" : `${number.format(each.entries)} entries`);
  if (each.number !== null) facts.push(`number ${each.number}`);
  if (each.this_update !== null) facts.push(`${span(now - each.this_update)} old`);
  if (each.next_update !== null) facts.push(`until ${date(each.next_update)}, ${left(each.next_update, now)}`);
  if (each.next_attempt !== null) facts.push(`asked again in ${span(each.next_attempt - now)}`);
  if (each.learnt) facts.push("found in a certificate");
  fill(parts, share, each.condition === "in force" ? level(share) : "bad", "Age against its lifetime", facts.join(", ") || each.condition);
  set(parts.facts, facts.join(" · "));
  set(parts.error, each.last_error === null ? "" : `failed ${many(each.consecutive_failures, "time")}: ${each.last_error}`);
}

function drawResponder(parts, each) {
  if (!parts.name.firstChild) parts.name.append(foreign(each.url));
  pill(parts.pill, each.given_up ? "given up" : each.consecutive_failures ? "failing" : "answers",
    each.given_up ? "bad" : each.consecutive_failures ? "warn" : "good");
  const asked = each.answers + each.failures;
  const share = asked ? each.answers / asked : 0;
  fill(parts, share, each.given_up ? "bad" : each.consecutive_failures ? "warn" : "", "Answers of what was asked", `${each.answers} of ${asked}`);
  set(parts.facts, `${many(each.answers, "answer")} · ${many(each.failures, "failure")}`);
  set(parts.error, each.last_error === null ? "" : `the last error: ${each.last_error}`);
}

function drawCertificate(parts, each) {
  if (!parts.name.firstChild) parts.name.append(foreign(each.subject));
  const days = Math.floor((each.not_after - status.now) / 86400);
  const word = days < 0 ? "bad" : days < 14 ? "warn" : "";
  pill(parts.pill, days < 0 ? "expired" : many(days, "day"), word || "good");
  fill(parts, days / 365, word, "Days left of a year", `${days} days`);
  set(parts.facts, `${each.use === "server" ? "server certificate" : "client CA"} of ${each.listener} · serial ${each.serial} · until ${date(each.not_after)}`);
}

// --- revoked by hand ---

let revokedSeen = "";
async function drawRevoked() {
  const revoked = await get("/revoked");
  revokedSeen = revokedCount();
  const shown = revoked.slice(-MOST_SHOWN).reverse();
  set($("revoked-more"), revoked.length > shown.length ? `The last ${number.format(shown.length)} of ${number.format(revoked.length)}; tls-gateway revoked lists them all.` : "");
  sync($("revoked"), shown, (each) => [each.issuer, each.serial, each.by].join(" "), (each) => {
    const button = make("button", { type: "button", className: "small", textContent: "Take back…", label: `Take back… the revocation of serial ${each.serial}` });
    button.addEventListener("click", () => unrevoke(button, each));
    const facts = [each.revoked_at, each.by, each.note].filter(Boolean).join(" · ");
    return { node: make("li", {},
      make("span", { className: "name" }, make("span", { className: "mono", textContent: each.serial }), " of ", foreign(each.issuer)),
      make("span", { className: "end" }, make("span", { className: "pill bad", textContent: each.reason }), button),
      make("span", { className: "facts" }, foreign(facts))) };
  }, () => {});
  empty("revoked", "Nothing is revoked by hand.");
}

function revokedCount() {
  return `${status.local_revocations} ${status.configured_revocations}`;
}

function confirmed(title, what, effect, yes, why) {
  $("confirm-title").textContent = title;
  $("confirm-what").replaceChildren(foreign(what));
  $("confirm-effect").textContent = effect;
  $("confirm-yes").textContent = yes;
  $("confirm-why").hidden = !why;
  const dialog = $("confirm");
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function unrevoke(button, each) {
  const sure = await confirmed("Take the revocation back?", `Serial ${each.serial} of ${each.issuer}`,
    "The client is welcome again at once, unless a list revokes it, too.", "Take back", false);
  if (sure) await busy(button, () => post("/unrevoke", { issuer: each.issuer, serial: each.serial }));
  await drawRevoked();
}

function asked() {
  const { serial, issuer, certificate } = $("search").elements;
  return certificate.value.trim() ? { certificate: certificate.value } : { serial: serial.value.trim(), issuer: issuer.value };
}

async function revoke() {
  const one = asked();
  if (!one.certificate && !(one.serial && one.issuer)) {
    toast("To revoke, give the serial number and its issuer, or paste the certificate.", true);
    $("search").elements[one.serial ? "issuer" : "serial"].focus();
    return;
  }
  const form = $("confirm").querySelector("form").elements;
  form.reason.value = "unspecified";
  form.note.value = "";
  const sure = await confirmed("Revoke this certificate?", one.certificate ? "The certificate that was pasted" : `Serial ${one.serial} of ${one.issuer}`,
    "It is refused from now on, and its live connections are closed.", "Revoke", true);
  if (!sure) return;
  if (await busy($("revoke"), () => post("/revoke", { ...one, reason: form.reason.value, note: form.note.value }))) await lookup();
  await drawRevoked();
}

async function busy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return false;
  button.setAttribute("aria-disabled", "true");
  try {
    const done = await work();
    await refreshStatus();
    return done;
  } catch (error) {
    toast(String(error.message ?? error), true);
    return false;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

// --- is this serial revoked? ---

async function lookup() {
  const wanted = new URLSearchParams(Object.entries(asked()).filter(([, value]) => value));
  try {
    const found = await get(`/lookup?${wanted}`);
    const verdict = found.revoked ? ["bad", `Serial ${found.serial} is revoked`]
      : found.findings.length ? ["good", `Serial ${found.serial} is not revoked`]
      : wanted.has("serial") && !wanted.get("issuer") ? ["", `No list in force revokes serial ${found.serial}`]
      : ["", `No list in force covers the issuer: serial ${found.serial} is not known to be good`];
    const details = found.findings.map((each) => make("p", {},
      each.by === "hand" ? "by hand, as of " : each.revoked ? "by the list of " : "the list of ", foreign(each.issuer),
      each.revoked ? `: ${each.reason}, since ${date(each.revoked_at)}` : " does not have it",
      each.next_update ? `; good until ${date(each.next_update)}` : ""));
    $("found").replaceChildren(make("div", { className: verdict[0] }, make("p", {}, make("strong", { textContent: verdict[1] })), ...details));
  } catch (error) {
    $("found").replaceChildren(make("div", { className: "bad" }, make("p", { textContent: error.message })));
  }
}

// --- refusals and charts ---

function drawRefusals(refusals) {
  $("no-refusals").hidden = refusals.length > 0;
  sync($("refusals"), refusals, (each) => [each.at, each.peer, each.serial].join(" "), (each) => {
    const cell = (...content) => make("td", {}, ...content);
    const time = make("time", { dateTime: new Date(1000 * each.at).toISOString(), title: date(each.at) });
    let serial = "";
    if (each.serial) {
      serial = make("button", { type: "button", className: "link mono", textContent: each.serial, label: `${each.serial}: is it revoked?` });
      serial.addEventListener("click", () => {
        const form = $("search").elements;
        form.certificate.value = "";
        form.serial.value = each.serial;
        form.issuer.value = [...form.issuer.options].some((option) => option.value === each.issuer) ? each.issuer : "";
        form.serial.focus();
        lookup();
      });
    }
    const reason = make("span", { className: `pill ${each.reason === "certificate_revoked" ? "bad" : "warn"}`, textContent: each.reason.replaceAll("_", " ") });
    const how = [each.event === "client disconnected" ? "while connected" : "", each.resumed ? "resumed" : "", each.tls].filter(Boolean).join(", ");
    return { node: make("tr", {}, cell(time), cell(make("span", {}, reason, " ", make("span", { className: "quiet", textContent: how }))),
      cell(make("span", {}, foreign(each.subject), " ", make("span", { className: "quiet" }, foreign(each.issuer && `by ${each.issuer}`)))),
      cell(serial), cell(foreign(each.peer)), cell(foreign(each.listener))), time };
  }, (entry, each) => set(entry.time, `${span(status.now - each.at)} ago`));
}

const rate = (at, column, per) => column.map((value, i) => {
  if (i === 0) return null;
  // Less than before: the gateway was started again.
  return Math.max(0, (per * (value - column[i - 1])) / Math.max(0.001, at[i] - at[i - 1]));
});

const CHARTS = [
  ["live", "--accent", "Live connections", (s) => s.live, (v) => number.format(v)],
  ["handshakes", "--good", "Handshakes a second", (s) => rate(s.at, s.handshakes, 1), (v) => `${v.toFixed(1)} a second`],
  ["refused", "--bad", "Refused clients a minute", (s) => rate(s.at, s.refused, 60), (v) => `${v.toFixed(1)} a minute`],
];
const drawn = new Map();
let past = null;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function plot(id, ink) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const chart = new uPlot({
    width: $(id).clientWidth, height: 150, padding: [8, 8, 0, 0],
    cursor: { y: false, points: { size: 6 } }, select: { show: false }, legend: { show: false },
    scales: { x: { range: (_u, _low, high) => [high - 3600, high] }, y: { range: (_u, _low, high) => [0, Math.max(1, high * 1.15)] } },
    axes: [{ ...axis, space: 70, size: 24, values: (_u, ticks) => ticks.map((tick) => new Date(1000 * tick).toTimeString().slice(0, 5)) },
      { ...axis, size: 42, space: 30, values: (_u, ticks) => ticks.map((tick) => short.format(tick)) }],
    series: [{}, { stroke: colour(ink), width: 2, fill: `color-mix(in srgb, ${colour(ink)} 16%, transparent)`, points: { show: false } }],
  }, [[], []], $(id));
  drawn.set(id, chart);
  return chart;
}

function drawCharts() {
  if (past === null) return;
  for (const [id, ink, title, column, words] of CHARTS) {
    const values = column(past);
    const chart = drawn.get(id) ?? plot(id, ink);
    chart.setData([past.at, values]);
    const known = values.filter((value) => value !== null);
    const last = known.length ? words(known.at(-1)) : "–";
    set($(`${id}-now`), last);
    $(id).setAttribute("aria-label", `${title} over the last hour: now ${last}, highest ${known.length ? words(Math.max(...known)) : "–"}`);
  }
}

function redraw() {
  for (const [id, chart] of drawn) { chart.destroy(); drawn.delete(id); $(id).replaceChildren(); }
  drawCharts();
}

// --- keeping up ---

let faults = 0;
async function refreshStatus() {
  status = await get("/status");
  answered = Date.now();
  faults = 0;
  draw(status);
}

async function every(milliseconds, work) {
  for (;;) {
    if (!document.hidden) {
      try {
        await work();
      } catch (error) {
        faults += 1;
        pill($("ready"), "No answer", "bad");
        // One may be the control process that is being replaced.
        if (faults === 2) toast(`The gateway does not answer: ${error.message}`, true);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
  }
}

setInterval(() => set($("age"), answered ? `told ${span((Date.now() - answered) / 1000)} ago` : ""), 1000);
$("search").addEventListener("submit", (event) => { event.preventDefault(); lookup(); });
$("revoke").addEventListener("click", revoke);
$("reload").addEventListener("click", async () => {
  const sure = await confirmed("Reload the configuration?", "Certificates, CAs and all that it names are read anew.",
    "It is taken if it is good as a whole; no connection is lost. If it is not, nothing changes.", "Reload", false);
  if (sure) await busy($("reload"), () => post("/reload", {}));
});
$("refresh-all").addEventListener("click", () => busy($("refresh-all"), () => post("/refresh", {})));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new ResizeObserver(() => {
  for (const [id, chart] of drawn) chart.setSize({ width: $(id).clientWidth, height: 150 });
}).observe($("main"));

every(STATUS_EVERY, async () => {
  await refreshStatus();
  // There may be many, and they seldom change.
  if (revokedCount() !== revokedSeen) await drawRevoked();
});
every(HISTORY_EVERY, async () => {
  // How long ago a refusal was is told by the gateway's clock.
  if (status === null) await refreshStatus();
  const { samples, refusals } = await get("/history");
  past = samples;
  drawCharts();
  drawRefusals(refusals);
});
