/*
 * On the bank's 3-D Secure pages when Stripe.js shows them in a frame: it learns that the shopper has
 * answered, and may ask to refuse in the shopper's place when the frame is closed. What the answer
 * was, Stripe.js asks the API.
 */
(() => {
  "use strict";
  if (window.parent === window) return;
  document.documentElement.classList.add("framed");

  if (document.querySelector("[data-authenticated]")) {
    window.parent.postMessage({ stripeSandbox: "authenticated" }, "*");
  }
  window.addEventListener("message", ({ source, data }) => {
    if (source === window.parent && data?.stripeSandbox === "refuse") {
      document.querySelector("button[value=refuse]")?.click();
    }
  });
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") document.querySelector("button[value=refuse]")?.click();
  });
})();
