"""What `manage.py bench` measures, and with what: people, letter, sinks, clocks."""
