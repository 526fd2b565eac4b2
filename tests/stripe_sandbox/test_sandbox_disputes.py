"""https://docs.stripe.com/disputes/api, by both kinds of client."""

from typing import Any

import pytest

PAID = ["payment_intent.succeeded", "payment_intent.created"]
WITHDRAWN = ["charge.succeeded", "charge.dispute.created", "charge.dispute.funds_withdrawn", *PAID]


async def disputed(rig: Any, ask: Any, card: str = "createDispute") -> Any:
    intent = await rig.intent(f"pm_card_{card}", capture_method="automatic")
    [dispute] = (await ask("disputes.list", {"payment_intent": intent.id})).data
    return dispute


@pytest.mark.parametrize(
    ("card", "reason", "status", "case_type", "refundable", "events"),
    [
        ("createDispute", "fraudulent", "needs_response", "chargeback", False, WITHDRAWN),
        (
            "createDisputeProductNotReceived",
            "product_not_received",
            "needs_response",
            "chargeback",
            False,
            WITHDRAWN,
        ),
        (
            "createDisputeInquiry",
            "fraudulent",
            "warning_needs_response",
            "inquiry",
            True,
            ["charge.succeeded", "charge.dispute.created", *PAID],
        ),
    ],
)
async def test_each_card_opens_its_dispute(
    rig: Any,
    ask: Any,
    card: str,
    reason: str,
    status: str,
    case_type: str,
    refundable: bool,
    events: list[str],
) -> None:
    """https://docs.stripe.com/testing#disputes"""
    dispute = await disputed(rig, ask, card)
    assert (dispute.reason, dispute.status, dispute.amount) == (reason, status, 1000)
    assert dispute.payment_method_details.card.case_type == case_type
    assert dispute.is_charge_refundable is refundable
    assert rig.data(dispute.charge)["disputed"] is True
    assert rig.sandbox.events.types() == events
    expanded = await ask("disputes.retrieve", dispute.id, {"expand": ["charge", "payment_intent"]})
    assert expanded.charge.payment_intent == expanded.payment_intent.id


async def test_the_fourth_card_brings_an_early_fraud_warning(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/radar/early_fraud_warnings"""
    intent = await rig.intent("pm_card_createIssuerFraudRecord")
    [warning] = (
        await ask("radar.early_fraud_warnings.list", {"charge": intent.latest_charge})
    ).data
    assert (warning.actionable, warning.payment_intent) == (True, intent.id)
    assert rig.data(intent.latest_charge)["disputed"] is False
    assert (await ask("disputes.list")).data == []
    await ask("refunds.create", {"payment_intent": intent.id, "amount": 1})
    found = await ask("radar.early_fraud_warnings.retrieve", warning.id, {"expand": ["charge"]})
    assert (found.actionable, found.charge.id) == (True, intent.latest_charge)
    await ask("refunds.create", {"payment_intent": intent.id})
    assert (await ask("radar.early_fraud_warnings.retrieve", warning.id)).actionable is False
    types = rig.sandbox.events.types()
    assert types.count("radar.early_fraud_warning.created") == 1
    assert types.count("radar.early_fraud_warning.updated") == 1
    missing = await ask.refused("radar.early_fraud_warnings.retrieve", "issfr_x")
    assert missing.http_status == 404


async def test_closing_admits_defeat_once(rig: Any, ask: Any) -> None:
    dispute = await disputed(rig, ask)
    closed = await ask("disputes.close", dispute.id)
    assert (closed.status, closed.is_charge_refundable) == ("lost", False)
    assert rig.sandbox.events.types()[-1] == "charge.dispute.closed"
    again = await ask.refused("disputes.close", dispute.id)
    assert (again.http_status, again.user_message) == (400, "This dispute is already closed")
    assert (await ask.refused("disputes.update", dispute.id, {})).http_status == 400
    assert (await ask.refused("disputes.close", "du_x")).http_status == 404
    refused = await ask.refused("refunds.create", {"charge": dispute.charge})
    assert refused.code == "charge_disputed"


@pytest.mark.parametrize(
    ("text", "status", "events"),
    [
        (
            "winning_evidence",
            "won",
            [
                "charge.dispute.updated",
                "charge.dispute.funds_reinstated",
                "charge.dispute.closed",
            ],
        ),
        ("losing_evidence", "lost", ["charge.dispute.updated", "charge.dispute.closed"]),
        ("It was delivered.", "under_review", ["charge.dispute.updated"]),
    ],
)
async def test_evidence_decides_a_dispute(
    rig: Any, ask: Any, text: str, status: str, events: list[str]
) -> None:
    """https://docs.stripe.com/testing#evidence"""
    dispute = await disputed(rig, ask)
    seen = len(rig.sandbox.events.all())
    sent = await ask("disputes.update", dispute.id, {"evidence": {"uncategorized_text": text}})
    assert (sent.status, sent.evidence_details.submission_count) == ("under_review", 1)
    rig.sandbox.clock.advance(10)
    settled = await ask("disputes.retrieve", dispute.id)
    assert settled.status == status
    assert rig.sandbox.events.types()[seen:] == events
    movements = [(t.amount, t.fee) for t in settled.balance_transactions]
    expected = [(-1000, 1500), (1000, 0)] if status == "won" else [(-1000, 1500)]
    assert movements == expected
    assert settled.is_charge_refundable is (status == "won")


async def test_evidence_can_be_kept_before_it_is_sent(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/disputes/update"""
    dispute = await disputed(rig, ask)
    kept = await ask(
        "disputes.update",
        dispute.id,
        {"evidence": {"customer_name": "Jenny"}, "submit": False, "metadata": {"case": "7"}},
    )
    assert (kept.status, kept.evidence_details.submission_count) == ("needs_response", 0)
    assert (kept.evidence.customer_name, kept.evidence_details.has_evidence) == ("Jenny", True)
    assert kept.metadata.to_dict() == {"case": "7"}
    labelled = await ask("disputes.update", dispute.id, {"metadata": {"case": "8"}})
    assert labelled.status == "needs_response"
    sent = await ask("disputes.update", dispute.id, {"submit": True})
    assert (sent.status, sent.evidence_details.submission_count) == ("under_review", 1)


async def test_an_inquiry_leaves_the_money_until_it_is_escalated(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/disputes/how-disputes-work#inquiries"""
    inquiry = await disputed(rig, ask, "createDisputeInquiry")
    assert inquiry.balance_transactions == []
    escalated = await ask(
        "disputes.update",
        inquiry.id,
        {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}},
    )
    assert (escalated.status, escalated.is_charge_refundable) == ("needs_response", False)
    assert escalated.payment_method_details.card.case_type == "chargeback"
    assert [t.amount for t in escalated.balance_transactions] == [-1000]
    assert rig.sandbox.events.types()[-1] == "charge.dispute.funds_withdrawn"
    refundable = await disputed(rig, ask, "createDisputeInquiry")
    refund = await ask("refunds.create", {"charge": refundable.charge})
    assert refund.status == "succeeded"
    assert (await ask("disputes.close", refundable.id)).status == "warning_closed"


async def by_control(rig: Any, path: str, **body: Any) -> Any:
    answer = await rig.http.post(f"/_sandbox{path}", json=body or None)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("answered", [False, True])
async def test_the_bank_escalates_an_inquiry_answered_or_not(
    rig: Any, ask: Any, answered: bool
) -> None:
    """https://docs.stripe.com/disputes/how-disputes-work#inquiries"""
    inquiry = await disputed(rig, ask, "createDisputeInquiry")
    if answered:
        evidence = {"evidence": {"uncategorized_text": "It was delivered."}}
        assert (await ask("disputes.update", inquiry.id, evidence)).status == "warning_under_review"
    seen = len(rig.sandbox.events.all())
    status, _ = await by_control(rig, f"/disputes/{inquiry.id}/escalate")
    assert status == 200
    escalated = await ask("disputes.retrieve", inquiry.id)
    assert (escalated.status, escalated.is_charge_refundable) == ("needs_response", False)
    assert escalated.payment_method_details.card.case_type == "chargeback"
    assert [t.amount for t in escalated.balance_transactions] == [-1000]
    updated, withdrawn = rig.sandbox.events.all()[seen:]
    assert updated["type"] == "charge.dispute.updated"
    before = "warning_under_review" if answered else "warning_needs_response"
    assert updated["data"]["previous_attributes"]["status"] == before
    assert updated["data"]["object"]["status"] == "needs_response"
    assert withdrawn["type"] == "charge.dispute.funds_withdrawn"
    status, _ = await by_control(rig, f"/disputes/{inquiry.id}/escalate")
    assert status == 400


async def test_an_issuer_warns_of_fraud_by_the_control_api(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/radar/early_fraud_warnings"""
    intent = await rig.intent()
    status, made = await by_control(
        rig,
        "/early_fraud_warnings",
        payment_intent=intent.id,
        fraud_type="made_with_stolen_card",
    )
    assert status == 200
    found = await ask("radar.early_fraud_warnings.retrieve", made["id"])
    assert (found.fraud_type, found.actionable) == ("made_with_stolen_card", True)
    assert (found.charge, found.payment_intent) == (intent.latest_charge, intent.id)
    assert rig.sandbox.events.types()[-1] == "radar.early_fraud_warning.created"
    rig.sandbox.open_dispute(payment_intent=intent.id)
    assert (await ask("radar.early_fraud_warnings.retrieve", made["id"])).actionable is False
    [updated] = rig.sandbox.events.all("radar.early_fraud_warning.updated")
    assert updated["data"]["previous_attributes"] == {"actionable": True}
    late = rig.sandbox.warn_of_fraud(charge=intent.latest_charge)
    assert (late["fraud_type"], late["actionable"]) == ("misc", False)
    page = (await rig.http.get(f"/dashboard/payments/{intent.id}")).text
    assert "made_with_stolen_card" in page


async def test_a_warning_that_makes_no_sense_is_refused(rig: Any) -> None:
    paid = await rig.intent()
    unpaid = await rig.intent("pm_usBankAccount")
    for body in (
        {"payment_intent": paid.id, "fraud_type": "mischief"},
        {"payment_intent": unpaid.id},
        {},
    ):
        status, _ = await by_control(rig, "/early_fraud_warnings", **body)
        assert status == 400
    assert rig.sandbox.events.all("radar.early_fraud_warning.created") == []


async def test_a_hold_is_disputed_when_it_is_captured(rig: Any, ask: Any) -> None:
    intent = await rig.intent("pm_card_createDispute", capture_method="manual")
    assert (await ask("disputes.list")).data == []
    await ask("payment_intents.capture", intent.id, {"amount_to_capture": 400})
    [dispute] = (await ask("disputes.list", {"charge": intent.latest_charge})).data
    assert dispute.amount == 400


async def test_the_movements_of_a_dispute_can_be_listed(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/balance_transactions/list"""
    dispute = await disputed(rig, ask)
    [taken] = (
        await ask("balance_transactions.list", {"source": dispute.id, "expand": ["data.source"]})
    ).data
    assert (taken.type, taken.reporting_category) == ("adjustment", "dispute")
    assert taken.source.id == dispute.id
    assert taken.fee_details[0].description == "Dispute fee"
    every = (await ask("balance_transactions.list")).data
    assert [t.type for t in every] == ["adjustment", "charge"]
    charges = (await ask("balance_transactions.list", {"type": "charge"})).data
    assert [t.source for t in charges] == [dispute.charge]
    assert (await ask("balance_transactions.list", {"currency": "eur"})).data == []
