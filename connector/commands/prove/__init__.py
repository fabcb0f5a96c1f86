"""`connector prove`: the crash test. Real processes on a throw-away store, and a sandbox with faults.

    options -> processes: a sandbox, connectors    load: edits, moves, events    killing: kill -9, again and again
            -> patience: until all is acknowledged
            -> settling: faults off, until nothing waits
            -> evidence: what was said, the store, the sandbox's journal -> comparing -> report

What users were told to be (`stories`) is what the people must be in the end, and what they were told to have done
(`happenings`) is what must have arrived, so nothing of the connector's own judgement is asked. The journal has every
operation that the sandbox applied, in order.
"""
