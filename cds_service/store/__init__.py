"""The record of what was said: one entry for each call, chained, and the feedback on its cards.

    recording  what a call's entry holds, made from the call and its answer, without direct identifiers
    store      writes entries, into the database or, where that fails, into the spool
    database   SQLite or PostgreSQL, its migrations and its transactions
    chain      the hash of an entry, and what is wrong with a chain

Nothing of it decides what a card says.
"""
