// The shop's page: shelf, cart, and a button for each way to pay.

import { BOOKS, bookById, cover, creditsText, money } from "./books.js";
import { DASHBOARD, USERS } from "./config.js";
import { cartItems, chooseUser, currentUser, node, readCart, writeCart } from "./page.js";
import { closePayment, isSubmitted, openCardForm, openCheckout, paymentsOf, payWithCredits } from "./payments.js";

const $ = (id) => document.getElementById(id);
const ORDER_PAGE = new URL("order.html", location.href).href;

let cart = readCart();
let cardForm = null;

// ------------------------------------------------------------------ shelf and cart

function showShelf() {
  $("shelf").replaceChildren(
    ...BOOKS.map((book) =>
      node(
        "li",
        { class: "book" },
        cover(book),
        node("h2", {}, book.title),
        node("p", { class: "soft" }, book.author),
        node("p", { class: "price" }, node("strong", {}, money(book.cents)), ` or ${creditsText(book.credits)}`),
        node("button", { type: "button", onclick: () => change(book.id, 1), "aria-label": `Add ${book.title} to the cart` }, "Add to cart")
      )
    )
  );
}

function change(id, by) {
  cart[id] = Math.max(0, Math.min(99, (cart[id] ?? 0) + by));
  if (!cart[id]) delete cart[id];
  writeCart(cart);
  closeOld();
  showCart();
  $("cart-news").textContent = `${bookById(id).title}: ${cart[id] ?? 0} in the cart`;
}

function showCart() {
  const items = cartItems(cart);
  const cents = items.reduce((sum, item) => sum + item.price_cents * item.quantity, 0);
  const credits = items.reduce((sum, item) => sum + item.credits * item.quantity, 0);
  const count = items.reduce((sum, item) => sum + item.quantity, 0);
  $("cart-lines").replaceChildren(
    ...items.map((item) =>
      node(
        "li",
        {},
        node("span", { class: "grow" }, item.title),
        node(
          "span",
          { class: "stepper" },
          stepper(item, -1, "−", "One less of"),
          node("span", { class: "quantity" }, String(item.quantity)),
          stepper(item, 1, "+", "One more of")
        ),
        node("span", { class: "figure" }, money(item.price_cents * item.quantity))
      )
    )
  );
  $("cart-empty").hidden = count > 0;
  $("cart-full").hidden = count === 0;
  $("cart-total").textContent = money(cents);
  $("cart-credits").textContent = creditsText(credits);
  $("to-cart").hidden = count === 0;
  $("to-cart-text").textContent = `Cart (${count})`;
  $("to-cart-total").textContent = money(cents);
}

function stepper(item, by, sign, words) {
  const press = () => {
    change(item.book_id, by);
    // The list is new: put the cursor back on the same button.
    document.querySelector(`[data-step="${item.book_id}${by}"]`)?.focus();
  };
  const label = `${words} ${item.title}`;
  return node("button", { type: "button", class: "step", onclick: press, "aria-label": label, "data-step": `${item.book_id}${by}` }, sign);
}

// ------------------------------------------------------------------ who is buying

function showUsers() {
  const select = $("user");
  select.replaceChildren(...USERS.map(({ id, name }) => node("option", { value: id }, name)));
  select.value = currentUser().id;
  select.addEventListener("change", () => {
    chooseUser(select.value);
    closeOld();
    showCredits();
  });
}

/** The service tells no balance, so the demo reckons: what the user began with, less what was paid. */
async function showCredits() {
  const user = currentUser();
  $("credits").textContent = "";
  try {
    const payments = await paymentsOf(user.id);
    const used = payments.reduce((sum, each) => sum + each.credits_used - each.credits_refunded, 0);
    if (user.id === currentUser().id) {
      $("credits").textContent = `${creditsText(user.credits - used)} left`;
    }
  } catch {
    // Not worth an error: the payment itself will tell.
  }
}

// ------------------------------------------------------------------ paying

const wish = () => ({ userId: currentUser().id, items: cartItems(cart) });

function showError(message) {
  const place = $("error");
  place.textContent = message;
  place.hidden = false;
  place.focus();
}

/** Runs what a button does, with the button resting meanwhile and failures shown in words. */
function press(button, action) {
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    $("error").hidden = true;
    // Not `disabled`: a screen reader would lose its place.
    button.setAttribute("aria-disabled", "true");
    try {
      await action();
    } catch (problem) {
      if (isSubmitted(problem)) goToOrder("payment_id", problem.paymentId);
      else showError(problem.message);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

function goToOrder(name, id) {
  location.assign(`${ORDER_PAGE}?${new URLSearchParams({ [name]: id })}`);
}

function closeCardForm() {
  cardForm?.close();
  cardForm = null;
  $("card-panel").hidden = true;
  $("pay-card").hidden = false;
  $("error").hidden = true;
}

/** Nothing that was opened for the old cart, or for another shopper, can be paid any more. */
async function closeOld() {
  closeCardForm();
  try {
    await closePayment();
  } catch (problem) {
    // Paid in another tab. Any other failure can wait: nothing new is opened before this is closed.
    if (isSubmitted(problem)) goToOrder("payment_id", problem.paymentId);
  }
}

async function openCard() {
  closeCardForm();
  $("card-panel").hidden = false;
  $("card-pay").textContent = `Pay ${$("cart-total").textContent}`;
  $("card-pay").disabled = true; // until there are fields to read
  const isStale = () => $("card-panel").hidden; // the cart has changed meanwhile
  let opened;
  try {
    opened = await openCardForm($("card-form"), { ...wish(), returnUrl: ORDER_PAGE });
  } catch (problem) {
    if (isStale()) return;
    closeCardForm();
    throw problem;
  }
  if (isStale()) {
    opened.close();
    return;
  }
  cardForm = opened;
  $("pay-card").hidden = true;
  $("card-pay").disabled = false;
  cardForm.focus();
}

press($("pay-card"), openCard);

press($("card-pay"), async () => {
  const form = cardForm;
  if (!form) return;
  const error = await form.pay();
  if (!error) {
    goToOrder("payment_intent", form.paymentIntentId);
  } else if (error.code === "payment_intent_unexpected_state") {
    await openCard(); // if it was paid elsewhere, this leads to the order
    showError("This card form was out of date and nothing was charged. Please enter your card again.");
  } else if (error.type !== "validation_error") {
    showError(error.message); // what is wrong with a field is said at the field
  }
});

press($("pay-checkout"), async () => {
  closeCardForm();
  const wished = wish();
  const url = await openCheckout(wished);
  // Unless the cart has changed meanwhile.
  if (JSON.stringify(wish()) === JSON.stringify(wished)) location.assign(url);
});

press($("pay-credits"), async () => {
  closeCardForm();
  const paid = await payWithCredits(wish());
  goToOrder("payment_id", paid.payment_id);
});

// On a phone the bar at the bottom leads to the cart, and makes room when one is there.
new IntersectionObserver(([{ isIntersecting }]) => {
  $("to-cart").classList.toggle("away", isIntersecting);
}).observe($("cart"));

$("dashboard").href = DASHBOARD;
$("canceled").hidden = !new URLSearchParams(location.search).has("canceled");
showShelf();
showUsers();
showCart();
showCredits();

/** This page may be an old copy: another tab, or the page after paying, has changed something. */
function refresh() {
  cart = readCart();
  $("user").value = currentUser().id;
  closeCardForm();
  showCart();
  showCredits();
}
window.addEventListener("storage", refresh);
window.addEventListener("pageshow", ({ persisted }) => persisted && refresh());
