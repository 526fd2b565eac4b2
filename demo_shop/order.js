// The page after paying: waits for the payment to be settled and shows the order.

import { bookById, cover, creditsText, money } from "./books.js";
import { DASHBOARD } from "./config.js";
import { currentUser, node, takeFromCart } from "./page.js";
import { forgetPayment, ordersOf, watchPayment } from "./payments.js";

const $ = (id) => document.getElementById(id);

const query = new URLSearchParams(location.search);
// Stripe puts a client secret into the address; it has no business in the history.
if (query.has("payment_intent_client_secret")) {
  const kept = new URLSearchParams({ payment_intent: query.get("payment_intent") });
  history.replaceState(null, "", `?${kept}`);
}

function say(state, title, words) {
  document.body.dataset.state = state;
  document.title = `${title} · Little Owl Books`;
  $("title").textContent = title;
  $("words").textContent = words;
}

const isCredits = (order) => order.payment_method === "credits";
const total = (order) =>
  isCredits(order) ? creditsText(order.total_credits) : money(order.total_cents, order.currency);

function showOrder(order) {
  $("order-number").textContent = order.order_id;
  $("order-method").textContent = isCredits(order) ? "Credits" : "Card";
  $("order-total").textContent = total(order);
  $("order-lines").replaceChildren(
    ...order.items.map((item) => {
      const book = bookById(item.book_id);
      const price = isCredits(order)
        ? creditsText(item.credits * item.quantity)
        : money(item.price_cents * item.quantity, order.currency);
      return node(
        "li",
        {},
        book ? cover(book) : "",
        node("span", { class: "grow" }, item.title ?? item.book_id, node("span", { class: "soft block" }, `Quantity ${item.quantity}`)),
        node("span", { class: "figure" }, price)
      );
    })
  );
  $("order").hidden = false;
}

async function showHistory(userId) {
  const orders = await ordersOf(userId);
  $("history").hidden = orders.length === 0;
  $("history-lines").replaceChildren(
    ...orders.map((order) =>
      node(
        "tr",
        {},
        node("td", {}, new Date(order.created_at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })),
        node("td", { class: "figure" }, total(order)),
        node("td", {}, order.status.replace("_", " ")),
        node("td", {}, isCredits(order) ? "Credits" : "Card"),
        node("td", { class: "mono cut", title: order.order_id }, order.order_id)
      )
    )
  );
  return orders;
}

function describe({ payment, session }) {
  if (session?.status === "expired" || payment.status === "canceled") {
    return ["failed", "Nothing was paid", "This checkout is over. Your cart is waiting in the shop."];
  }
  if (payment.status === "failed" && !session) {
    const reason = payment.failure?.message ?? "The payment did not succeed.";
    return ["failed", "The payment did not succeed", `${reason} Nothing was charged.`];
  }
  if (payment.status === "processing") {
    return ["waiting", "Your payment was submitted", "Your order comes with the money, which can take some days. Please do not order it again."];
  }
  if (session?.status === "open") {
    return ["waiting", "Not paid yet", "This checkout is still open in another page."];
  }
  return ["waiting", "One moment", "Your payment is being confirmed."];
}

async function main() {
  $("dashboard").href = DASHBOARD;
  if (![...query.keys()].length) {
    say("list", "Your orders", `Everything ${currentUser().name} has bought.`);
    const orders = await showHistory(currentUser().id);
    if (!orders.length) $("words").textContent = `${currentUser().name} has not bought anything yet.`;
    return;
  }
  let last = null;
  for await (const seen of watchPayment(query)) {
    last = seen.payment;
    // The shop itself names a payment_id only once it was paid or submitted.
    const submitted = last.order_id || last.status === "processing" || query.has("payment_id");
    if (submitted && forgetPayment(last.payment_id)) takeFromCart(last.items);
    if (last.order_id) break;
    say(...describe(seen));
  }
  if (last.order_id) {
    const orders = await showHistory(last.user_id);
    showOrder(orders.find((order) => order.order_id === last.order_id));
    say("paid", "Thank you", "Your payment has arrived and the books are yours.");
  } else {
    await showHistory(last.user_id);
  }
}

main().catch((problem) => say("failed", "This did not work", problem.message));
