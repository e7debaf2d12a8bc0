"""Fewer and narrower indexes where delivery writes, and vacuum that follows the queue.

A message changes its status once or more, a queue entry its time: each index of the table is then
written again. The message list by address goes by a hash of four bytes, a batch by id, the expiry
sweep by batch and time. Preparation resumes by its cursor: no index by contact is needed.
"""

from __future__ import annotations

from django.db import migrations, models

# Every claim, put-back and removal leaves a dead row; a fraction of ten million would be too late.
_QUEUE = """
ALTER TABLE sending_queueentry SET (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0)
"""
# Counted up in place by every batch of results: half of each page is left for that.
_STATS = """
ALTER TABLE sending_statbucket SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000)
"""


class Migration(migrations.Migration):
    dependencies = [("sending", "0011_lanes_and_routes")]

    operations = [
        migrations.RemoveIndex("message", "message_batch"),
        migrations.RemoveIndex("message", "message_recipient"),
        migrations.RemoveIndex("message", "message_contact"),
        migrations.RemoveIndex("queueentry", "queue_expiry"),
        migrations.AddField(
            "message",
            "recipient_key",
            models.GeneratedField(
                db_persist=True,
                expression=models.Func(models.F("recipient"), function="hashtext"),
                output_field=models.IntegerField(),
            ),
        ),
        migrations.AddIndex("message", models.Index(fields=["batch", "id"], name="message_batch")),
        migrations.AddIndex(
            "message", models.Index(fields=["recipient_key"], name="message_recipient")
        ),
        migrations.RunSQL(_QUEUE, "ALTER TABLE sending_queueentry RESET (fillfactor)"),
        migrations.RunSQL(_STATS, "ALTER TABLE sending_statbucket RESET (fillfactor)"),
    ]
