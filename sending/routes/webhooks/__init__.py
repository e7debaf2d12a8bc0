"""What providers report of mail that routes handed them: checked and put into our words.

Plain values in, plain values out: nothing here reads or writes the database, and what a report does
to a message is decided in `sending/feedback`.
"""
