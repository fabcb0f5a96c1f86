"""A local Customer.io: its Track API as a real HTTP server, and its webhook sender.

It exists so that the connector can be tried without an account, and so that what the connector promises can
be checked against somebody else's reading of the vendor's rules. For that it is an oracle, not a mock: it
shares no code with the connector's client, encoder or signature check.

`requests` reads what is sent, `rules` says what it does, `webhooks` reports of it; the server and what it keeps stand
here. `requests` knows the rules, and no rule knows of a request. Every body is read and answered by `json_body`.

    HTTP -> track_api -> endpoints -> v1_requests | v2_operations -> operations -> state    what we were told
                                         limits (refusals) -> capacity              |
               workspace <- identifying | tracking | removing | relating | belongings    the vendor's rules
                   |
    HTTP <- read_back | unordered                                                        what became of it
    HTTP <- webhook_sender <- delivery <- reporting <- campaign (answers to operations)  what we report of it
            ^----- load <---------- reporting <- volume (as many as are asked for)

Where the vendor's documents say nothing, the stricter reading is taken, and named in the docstring of the
module that takes it. One thing holds for all of them: nothing that is documented as accepted is refused.
"""
