// The payment service, for a frontend: three ways to pay and the questions afterwards.
// Copy this file; it knows nothing of this shop's pages.

import { API, STRIPE_JS } from "./config.js";

const TRIES = 4;

/** A refusal by the service, in words that a shopper can read: https://www.rfc-editor.org/rfc/rfc9457 */
export class Problem extends Error {
  constructor(body, status) {
    super(body.detail ?? "Something went wrong. Please try again.");
    this.name = "Problem";
    this.code = body.code ?? "unknown";
    this.status = status;
    this.paymentId = body.payment_id;
    this.paymentStatus = body.payment_status;
  }
}

/**
 * One request. It is sent again when nobody knows what became of it: no answer, a failure of the
 * server, or "the first one is still running". With an Idempotency-Key that is safe, because the
 * service does the work once and gives every repeat the same answer.
 */
async function call(method, path, { body, key } = {}) {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  // Outside of development also: headers.Authorization = `Bearer ${token}`
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(API + path, { method, headers, body: body && JSON.stringify(body) });
    } catch {
      if (attempt === TRIES) {
        throw new Problem({ code: "no_connection", detail: "No connection to the shop." }, 0);
      }
      await sleep(backoff(attempt));
      continue;
    }
    const reply = await response.json().catch(() => ({}));
    if (response.ok) return reply;
    const problem = new Problem(reply, response.status);
    if (isSettled(problem) || attempt === TRIES) throw problem;
    await sleep(Number(response.headers.get("Retry-After")) * 1000 || backoff(attempt));
  }
}

/** Whether the service has said its last word on a request. */
function isSettled(problem) {
  const unknown = problem.status === 0 || problem.status >= 500 || problem.status === 429;
  return !unknown && problem.code !== "idempotency_key_in_use";
}

const backoff = (attempt) => 300 * 2 ** attempt * (0.5 + Math.random() / 2);
const sleep = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));

// ------------------------------------------------------------------ one open payment at a time

/**
 * What the shopper was last given to pay, in any tab: { wish, key, paymentId }. It stays while it
 * can be paid: the same wish again (the back button, a reload, another tab, a lost answer) sends
 * the same key and gets the same page or form. Another wish closes it first, so that no second tab
 * can still pay it.
 */
const SLOT = "payment:open";
const openPayment = () => JSON.parse(localStorage.getItem(SLOT) ?? "null");
const remember = (payment) => localStorage.setItem(SLOT, JSON.stringify(payment));

/** Also among tabs: https://developer.mozilla.org/en-US/docs/Web/API/Web_Locks_API */
const inTurn = (work) => navigator.locks.request(SLOT, work);

const once = (path, body) => inTurn(() => ask(path, body));

async function ask(path, body) {
  const wish = JSON.stringify([path, body]);
  if (openPayment()?.wish !== wish) {
    await cancelOpen();
    remember({ wish, key: crypto.randomUUID() });
  }
  const payment = openPayment();
  try {
    const reply = await call("POST", path, { body, key: payment.key });
    remember({ ...payment, paymentId: reply.payment_id });
    return reply;
  } catch (problem) {
    if (isSubmitted(problem) || !isSettled(problem)) throw problem;
    localStorage.removeItem(SLOT); // a refusal is replayed to its key: the next try needs a new one
    if (problem.code === "payment_not_confirmable") return ask(path, body); // canceled or expired
    throw problem;
  }
}

async function cancelOpen() {
  const paymentId = openPayment()?.paymentId;
  if (!paymentId) return; // never answered, so that no page has anything to pay it with
  try {
    await call("POST", `/payment/${encodeURIComponent(paymentId)}/cancel`);
  } catch (problem) {
    if (problem.code !== "payment_not_found") throw problem;
  }
  forgetPayment(paymentId);
}

/**
 * For when the cart or the shopper changes (before signing out: only its owner may close it).
 * Throws a Problem that isSubmitted when the payment was paid after all.
 */
export const closePayment = () => inTurn(cancelOpen);

/** Whether a refusal means "paid already, or submitted to the bank": show the order, charge nothing. */
export function isSubmitted({ code, paymentStatus }) {
  const isClosed = [undefined, "canceled", "failed"].includes(paymentStatus);
  return code === "payment_not_cancelable" || (code === "payment_not_confirmable" && !isClosed);
}

/** For the page after paying. True the first time, and only for what was opened in this browser. */
export function forgetPayment(paymentId) {
  if (openPayment()?.paymentId !== paymentId) return false;
  localStorage.removeItem(SLOT);
  return true;
}

// ------------------------------------------------------------------ 1. card, in your own page

let script = null;

/** The contract of @stripe/stripe-js, with the script's address from config.js. */
export async function loadStripe(publishableKey) {
  script ??= new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.src = STRIPE_JS;
    tag.onload = () => resolve(window.Stripe);
    tag.onerror = () => {
      script = null; // so that the next click tries again
      reject(new Problem({ code: "no_stripe_js", detail: "The card form could not be loaded." }, 0));
    };
    document.head.append(tag);
  });
  return (await script)(publishableKey);
}

/** Shows Stripe's card form in `place`; answers with what its pay button has to do. */
export async function openCardForm(place, { userId, items, returnUrl }) {
  const { publishable_key } = await call("GET", "/config/publishable-key");
  const stripe = await loadStripe(publishable_key);
  const payment = await once("/create-payment-intent", { user_id: userId, items });
  const elements = stripe.elements({ clientSecret: payment.client_secret });
  const form = elements.create("payment");
  const ready = new Promise((resolve, reject) => {
    form.on("ready", resolve);
    form.on("loaderror", ({ error }) => reject(new Problem({ detail: error.message }, 0)));
  });
  form.mount(place);
  try {
    await ready;
  } catch (problem) {
    form.destroy();
    throw problem;
  }
  return {
    focus: () => form.focus(),
    close: () => form.destroy(),
    /** The error to show, or null when the shopper has paid (or the bank is still at it). */
    async pay() {
      const { error } = await stripe.confirmPayment({
        elements,
        confirmParams: { return_url: returnUrl },
        redirect: "if_required",
      });
      return error ?? null;
    },
    paymentId: payment.payment_id,
    paymentIntentId: payment.payment_intent_id,
  };
}

// ------------------------------------------------------------------ 2. card, on Stripe's page

/** The address of Stripe's page, which sends the shopper back to PAYMENT_SUCCESS_URL. */
export async function openCheckout({ userId, items }) {
  return (await once("/create-checkout-session", { user_id: userId, items })).checkout_url;
}

// ------------------------------------------------------------------ 3. credits

export function payWithCredits({ userId, items }) {
  return once("/pay-with-credits", { user_id: userId, items });
}

// ------------------------------------------------------------------ afterwards

/**
 * Coming back is not yet having paid: asks until the payment is settled one way or the other.
 * `query` is the success page's: session_id from Checkout, payment_intent from Elements, or
 * payment_id, which the shop itself has put there. Yields each payment it gets to see.
 */
export async function* watchPayment(query, { seconds = 60, every = 1500 } = {}) {
  const end = Date.now() + seconds * 1000;
  const sessionId = query.get("session_id");
  const intentId = query.get("payment_intent");
  for (;;) {
    // Each of these two also lets the service ask Stripe and make the order, should the webhook be
    // late. A PaymentIntent is only asked about: no payment_method_id, so nothing is attempted.
    let session = null;
    if (sessionId) {
      session = await call("GET", `/checkout-session/${encodeURIComponent(sessionId)}`);
    } else if (intentId) {
      await call("POST", "/confirm-payment", { body: { payment_intent_id: intentId } });
    }
    const id = session?.payment_id ?? intentId ?? query.get("payment_id");
    const payment = await call("GET", `/payment/${encodeURIComponent(id)}`);
    yield { payment, session };
    const over = payment.order_id || payment.status === "canceled" || session?.status === "expired";
    const failed = !sessionId && payment.status === "failed";
    if (over || failed || Date.now() > end) return;
    await sleep(every);
  }
}

export async function ordersOf(userId) {
  return (await call("GET", `/user/${encodeURIComponent(userId)}/orders?limit=100`)).orders;
}

export async function paymentsOf(userId) {
  return (await call("GET", `/user/${encodeURIComponent(userId)}/payments?limit=100`)).payments;
}
