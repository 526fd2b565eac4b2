"""The control API under ``/_sandbox``: what happens outside Stripe's API, told over HTTP.

Bodies and answers are JSON; a body may be left out where every field has a default. A refusal has
the shape of an API error, and an unknown field is refused.

    GET    /                                    time, endpoints, the PaymentMethod ids there are
    GET    /requests?method=&path=regex         the API requests that arrived
    DELETE /requests
    GET    /faults
    POST   /faults                              kind, path="" (regex), method, times=1 (null: for
                                                ever), chance=1.0, seconds=1.0 | "0.2..1.5" |
                                                "0.2,0.3,2", status=500, code, param,
                                                reason="global-rate", headers
    DELETE /faults
    GET    /webhooks/faults
    POST   /webhooks/faults                     kind, type="" (regex), times=1 (null: for ever),
                                                chance=1.0, seconds=1.0
    DELETE /webhooks/faults
    GET    /webhooks/deliveries?event=          attempts made, and what is pending
    POST   /webhooks/pause, /resume, /drop      drop loses everything that is pending
    POST   /webhooks/release                    events: [ids], delivered first and in this order
    POST   /webhooks/drain                      within=10.0 seconds; 409 when that is not enough
    POST   /events/{id}/resend                  again, under the same id
    POST   /payment_intents/{id}/settle         outcome="succeeded" | "failed" | "processing"
    POST   /payment_intents/{id}/3ds            approve=true
    POST   /refunds                             charge | payment_intent, amount, reason
    POST   /refunds/{id}/succeed, /fail         fail: reason="expired_or_canceled_card"
    POST   /refunds/{id}/require_action         the customer is asked where the money should go
    POST   /disputes                            charge | payment_intent, reason, amount, inquiry
    POST   /disputes/{id}/escalate              an inquiry becomes a dispute
    POST   /disputes/{id}/close                 status="won" | "lost"
    POST   /early_fraud_warnings                charge | payment_intent, fraud_type="misc"
    POST   /checkout/sessions/{id}/complete     payment_method="pm_card_visa", email, name
    POST   /checkout/sessions/{id}/expire
    POST   /clock/advance                       seconds
"""
