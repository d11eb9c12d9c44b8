"""The admin interface, run by the control process: http.py · access.py · app.py · exposition.py."""
