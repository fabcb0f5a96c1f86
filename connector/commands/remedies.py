"""What to do about each reason word of a decision. A test proves that every reason has its words."""

from __future__ import annotations

# In braces: what `person` knows about this user and these settings.
REMEDIES = {
    "not_in_segment": "to send them, whitelist one of their segments in people.segments, or find the condition that "
    "doesn't hold: connector segments NAME --user {user_id}",
    "left_kept": "they left every whitelisted segment, so they stay at Customer.io as they were last sent; an "
    "opt-out is sent even so, and back in one, they are kept equal again",
    "only_from_customerio": "only webhooks have told of them: import them, or let the product identify them, under "
    "one of these identifiers, and they are a user of yours",
    "no_customer_id": "give them a value for people.customer_id ({customer_id_from})",
    "bad_customer_id": "correct the value of people.customer_id ({customer_id_from}): it must be a text or a number of "
    "1 to 150 bytes, neither `.` nor `..`. With the single API an id may not look like an email or a cio_id, nor an "
    "email like an id, because somebody else could be meant; who was sent under such a one is reached with "
    'customerio.api = "batch" only',
    "unreadable": "write the value of people.customer_id ({customer_id_from}) anew: it holds half of a character, a "
    "number that is too large, or too many levels",
    "customer_id_taken": "user {rival} is that person at Customer.io already: correct the id of one of the two",
    "no_email": "give them an email address, or set people.require_email = false",
    "customer_id_changed": "Customer.io has them under {sent_as}, and nothing is sent under another id, which would "
    "make a second person: set the value of people.customer_id ({customer_id_from}) back. The id can change only when "
    "a webhook has told their cio_id, nobody has the new one, and a new people.customer_id was approved",
    "just_deleted": "nothing: they were deleted at Customer.io a moment ago, and are created anew a minute after that",
    "leaving": "nothing: they are in no whitelisted segment, and are deleted when people.delete.grace is over; who "
    "comes back before stays",
    "left": "nothing: a running connector deletes them now, else connector sync does",
    "suppressed": "nothing: Customer.io was told to take nothing about them any more",
    "unchanged": "nothing: what Customer.io has of them is what it should have",
    "erased": "they asked to be forgotten, and nothing about them is taken or sent. If they have signed up anew: "
    "connector readmit, with all identifiers they come with",
    "merged": "nothing: they turned out to be user {merged_into}, who is sent instead",
    "awaits_pass": "the next full pass lets them go: a running connector makes one every {every}, connector sync does "
    "at once",
    "held": "what they are held under can't be approved any more: connector sync says what would happen now",
    "entered": "nothing: a running connector creates them now, else connector sync does",
    "opted_out": "nothing: a running connector sends the opt-out now, else connector sync does",
    "unsure": "nothing: a call for them may have been applied and nobody heard, so everything is sent once more",
    "changed": "nothing: a running connector sends the changes now, else connector sync does",
}

# Where more is known than the reason.
HELD_NOW = "connector approve {hash} lets them go, and everyone who is held with them"
NO_CREDENTIALS = (
    "nothing is sent while customerio.site_id is empty: put the workspace's site id and Track API key there"
)
RENAME_HELD = (
    "people.customer_id ({customer_id_from}) is another one than at the last pass: nobody gets another id before "
    "connector approve {hash}"
)
RENAME_UNSEEN = (
    "people.customer_id ({customer_id_from}) is another one than at the last pass: nobody gets another id before that "
    "is approved; connector sync says how"
)
RENAMING = "nothing: a running connector gives them their new id now, else connector sync does"
FAILING = "the last try failed ({failure}); it is tried again when it is due, and the attempts say what was answered"
_ANEW = "whatever changes of them, or of what the settings make of them, is a new try, and so is"
PARKED = (
    "they are parked, because it failed for as long as retry.give_up_after says ({failure}): "
    f"{_ANEW} connector replay parked --user {{user_id}}"
)
PARKED_REFUSED = (
    "they are parked, because Customer.io refused it and would refuse the same again: correct what its answer names; "
    f"{_ANEW} connector replay parked --user {{user_id}}"
)

ERASING = "their erasure was begun and is not finished: connector erase {user_id} goes on with it"

CONFLICT = "correct the {kind} of one of the two"
CONFLICT_IS_OVER = "nobody has it any more: it becomes this user's when it is given again"
