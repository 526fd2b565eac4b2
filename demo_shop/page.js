// What both pages share: building nodes, the chosen shopper, the cart.

import { BOOKS } from "./books.js";
import { USERS } from "./config.js";

/** node("p", { class: "soft" }, "text", otherNode): text is always text, never markup. */
export function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function currentUser() {
  const stored = localStorage.getItem("demo:user");
  return USERS.find((user) => user.id === stored) ?? USERS[0];
}

export const chooseUser = (id) => localStorage.setItem("demo:user", id);

/** The cart: book id -> how many. */
export function readCart() {
  const stored = JSON.parse(localStorage.getItem("demo:cart") ?? "{}");
  return Object.fromEntries(BOOKS.filter(({ id }) => stored[id] > 0).map(({ id }) => [id, stored[id]]));
}

export const writeCart = (cart) => localStorage.setItem("demo:cart", JSON.stringify(cart));

/** What was bought leaves the cart; what was added since stays. */
export function takeFromCart(items) {
  const cart = readCart();
  for (const { book_id, quantity } of items) cart[book_id] = (cart[book_id] ?? 0) - quantity;
  writeCart(cart);
}

/** The cart as the payment service takes it. It computes the sum itself. */
export const cartItems = (cart) =>
  BOOKS.filter(({ id }) => cart[id]).map((book) => ({
    book_id: book.id,
    title: book.title,
    quantity: cart[book.id],
    price_cents: book.cents,
    credits: book.credits,
  }));
