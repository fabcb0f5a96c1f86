"""The settings in force while the connector runs, the file they come from, and how the one becomes the other.

    starting   what is in force at first, and what a command goes by that ends
    noticing   the file has changed, nobody writes it, and it stands still
    edits      the same who and what: in force at once
               another: planned -> the guard agrees: in force
                                -> it doesn't: held, the old who and what goes on (settings/mixing)
    following  waits for edits and for SIGHUP; looks every second what others made of the settings
    current    what is in force, and why a newer edit isn't

Each edit becomes a revision in the store. Looking at those every second, a process learns that a held edit was
approved, or that another process has taken up a newer one; then it sends nothing until its own file says the same.
A start with the file before an edit ends that edit's hold, as it may be the same file, edited back. It may also be
another one's: the process that holds the edit says so again.
"""
