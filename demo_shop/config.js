// What differs between the sandbox and the real thing, in one place.

// Where this page gets Stripe.js from. With real keys: "https://js.stripe.com/endive/stripe.js".
export const STRIPE_JS = "http://localhost:8005/endive/stripe.js";

// The payment service. Behind the API proxy: "/api/v1/audiobooker_proxy/payment".
export const API = "/api/v1/payment";

// The sandbox's own, with nothing in their place in production.
export const DASHBOARD = "http://localhost:8005/";
export const USERS = [
  { id: "user_123", name: "Ada", credits: 10 },
  { id: "user_456", name: "Ben", credits: 0 },
  { id: "64b7f8c2e4b0a1d2c3e4f506", name: "Chloe", credits: 25 },
];
