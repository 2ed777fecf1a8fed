"""One program for each gRPC implementation, which makes the calls that it is told and says what came of each.

A program reads from standard input, as JSON, `address`, `trust` (a PEM file) and `calls`, makes these one after
another on one channel, and writes a list of their outcomes. A call has

    path, message      the message as it travels, in base64
    metadata           names and values; those of names that end in `-bin` in base64
    timeout, cancel    milliseconds: the deadline, and when the caller goes; 0 for neither
    compress           whether the message is compressed
    stream, take       whether it has several answers, and after how many of them the caller goes; 0 for never
    times, seconds     so many calls at once, again and again for so long; the outcome is that of one that
                       failed, or else of the last

and an outcome

    code, message      gRPC's status
    answers            in base64
    trailing           as `metadata`, of names that begin with `x-`
    details            google.rpc.Status as the implementation's own helper has it, in base64; empty without one
    milliseconds       how long it took
"""
