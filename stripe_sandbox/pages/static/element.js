/*
 * Inside the iframe of an Element: the fields, their checks, and the exchange of a card for a
 * PaymentMethod. Stripe.js on the page (stripe.js) is the other end of the port; what it gets is
 * whether the fields are complete, never what is in them.
 */
(() => {
  "use strict";

  const BRANDS = [
    { name: "amex", label: "American Express", badge: "AMEX", starts: /^3[47]/, lengths: [15], cvc: 4 },
    { name: "diners", label: "Diners Club", badge: "DINERS", starts: /^3[0689]/, lengths: [14, 16] },
    { name: "jcb", label: "JCB", badge: "JCB", starts: /^35/ },
    { name: "mastercard", label: "Mastercard", badge: "MC", starts: /^(5[1-5]|2[2-7])/ },
    { name: "discover", label: "Discover", badge: "DISC", starts: /^6(011|5|4[4-9])/ },
    { name: "unionpay", label: "UnionPay", badge: "UP", starts: /^62/, lengths: [16, 19] },
    { name: "visa", label: "Visa", badge: "VISA", starts: /^4/ },
    { name: "unknown", label: "", badge: "", starts: /^/ },
  ].map((brand) => ({ lengths: [16], cvc: 3, ...brand }));

  const form = document.querySelector("form");
  const field = (name) => form.elements.namedItem(name);
  const fields = ["number", "expiry", "cvc", "postal"].map(field).filter(Boolean);
  const digits = (text) => text.replace(/\D/g, "");

  let port = null;
  let setup = null;
  let ready = false;
  let disabledByPage = false;
  const touched = new Set();

  // ---------------------------------------------------------------- what is typed

  const brandOf = (number) => BRANDS.find((brand) => brand.starts.test(number));
  const longest = (brand) => Math.max(...brand.lengths);

  /** In groups as they are printed on the card. */
  function formatNumber(text) {
    const brand = brandOf(digits(text));
    const number = digits(text).slice(0, longest(brand));
    const short = brand.lengths[0] < 16 && number.length <= brand.lengths[0];
    const groups = short ? /^(\d{1,4})(\d{1,6})?(\d+)?$/.exec(number)?.slice(1) : number.match(/\d{1,4}/g);
    return (groups ?? []).filter(Boolean).join(" ");
  }

  function formatExpiry(text) {
    let number = digits(text);
    // Filled in by a browser as MM/YYYY.
    if (/^\s*\d{1,2}\s*\/\s*\d{4}\s*$/.test(text)) {
      const [month, year] = text.split("/");
      number = month.trim().padStart(2, "0") + year.trim().slice(2);
    }
    if (/^[2-9]/.test(number) || /^\d\s*\//.test(text)) number = `0${number}`;
    number = number.slice(0, 4);
    return number.length > 2 ? `${number.slice(0, 2)} / ${number.slice(2)}` : number;
  }

  const FORMATS = {
    number: formatNumber,
    expiry: formatExpiry,
    cvc: (text) => digits(text).slice(0, brandOf(digits(field("number").value)).cvc),
    postal: (text) => text.slice(0, 12),
  };

  /** Formats a field and leaves the caret after the same digit as before. */
  function reformat(input) {
    const before = digits(input.value.slice(0, input.selectionStart)).length;
    const atEnd = input.selectionStart === input.value.length;
    const formatted = FORMATS[input.name](input.value);
    if (formatted === input.value) return;
    input.value = formatted;
    let position = formatted.length;
    if (!atEnd) {
      for (position = 0; digits(formatted.slice(0, position)).length < before; position += 1);
    }
    input.setSelectionRange(position, position);
  }

  // ---------------------------------------------------------------- what is wrong with it

  function passesLuhn(number) {
    let sum = 0;
    [...number].reverse().forEach((digit, index) => {
      const value = Number(digit) * (index % 2 ? 2 : 1);
      sum += value > 9 ? value - 9 : value;
    });
    return sum % 10 === 0;
  }

  const problem = (code, message) => ({ type: "validation_error", code, message });

  const CHECKS = {
    number(text) {
      const number = digits(text);
      if (!brandOf(number).lengths.includes(number.length)) {
        return problem("incomplete_number", "Your card number is incomplete.");
      }
      return passesLuhn(number) ? null : problem("invalid_number", "Your card number is invalid.");
    },
    expiry(text) {
      const number = digits(text);
      if (number.length < 4) {
        return problem("incomplete_expiry", "Your card's expiration date is incomplete.");
      }
      const [month, year] = [Number(number.slice(0, 2)), 2000 + Number(number.slice(2))];
      if (month < 1 || month > 12) {
        return problem("invalid_expiry_month", "Your card's expiration date is invalid.");
      }
      const today = new Date();
      if (year < today.getFullYear()) {
        return problem("invalid_expiry_year_past", "Your card's expiration year is in the past.");
      }
      if (year === today.getFullYear() && month < today.getMonth() + 1) {
        return problem("invalid_expiry_month_past", "Your card's expiration date is in the past.");
      }
      return null;
    },
    cvc(text) {
      const complete = digits(text).length === brandOf(digits(field("number").value)).cvc;
      return complete ? null : problem("incomplete_cvc", "Your card's security code is incomplete.");
    },
    postal(text) {
      return text.trim().length >= 3
        ? null
        : problem("incomplete_zip", "Your postal code is incomplete.");
    },
  };

  /** Of a payment Element; the card Element has no choice. */
  const chosen = () => form.querySelector("input[name=method]:checked");
  const paysByCard = () => (chosen()?.value ?? "card") === "card";
  const required = () => (paysByCard() ? fields.filter((input) => !input.disabled) : []);
  const check = (input) => CHECKS[input.name](input.value);

  function show(input, error) {
    const shown = document.getElementById(`${input.name}-error`);
    input.setAttribute("aria-invalid", error ? "true" : "false");
    if (shown && shown.textContent !== (error?.message ?? "")) {
      shown.textContent = error?.message ?? "";
    }
  }

  /** Marks every field that is wrong, puts the cursor into the first, and returns its error. */
  function validate() {
    let first = null;
    for (const input of required()) {
      touched.add(input.name);
      const error = check(input);
      show(input, error);
      if (error && !first) {
        first = error;
        input.focus();
      }
    }
    measure();
    tellChange();
    return first;
  }

  function describe() {
    const asked = required();
    const errors = asked.filter((each) => touched.has(each.name)).map(check).filter(Boolean);
    const state = {
      empty: paysByCard() && asked.every((input) => input.value === ""),
      complete: asked.every((input) => check(input) === null),
    };
    if (setup.type === "payment") {
      return { ...state, collapsed: false, value: { type: chosen().dataset.type } };
    }
    return {
      ...state,
      brand: brandOf(digits(field("number").value)).name,
      error: errors[0],
      value: { postalCode: field("postal")?.value ?? "" },
    };
  }

  let lastChange = "";
  function tellChange() {
    const detail = describe();
    const text = JSON.stringify(detail);
    if (text === lastChange) return;
    lastChange = text;
    port.postMessage({ event: "change", detail });
  }

  // ---------------------------------------------------------------- card -> PaymentMethod

  function encode(params, prefix = "", body = new URLSearchParams()) {
    for (const [name, value] of Object.entries(params)) {
      const key = prefix ? `${prefix}[${name}]` : name;
      if (value === undefined || value === null || value === "") continue;
      if (typeof value === "object") encode(value, key, body);
      else body.append(key, String(value));
    }
    return body;
  }

  async function tokenize({ billing = {} }) {
    const error = validate();
    if (error) return { error };
    if (!paysByCard()) {
      // Nothing is typed in here: test PaymentMethods stand for the account or the voucher.
      const { value } = chosen();
      const id = value === "bank" ? form.elements.namedItem("bank_outcome").value : value;
      return { paymentMethod: { id } };
    }
    const expiry = digits(field("expiry").value);
    const postal = field("postal")?.disabled === false ? field("postal").value : undefined;
    const body = encode({
      type: "card",
      card: {
        number: digits(field("number").value),
        exp_month: expiry.slice(0, 2),
        exp_year: expiry.slice(2),
        cvc: field("cvc").value,
      },
      billing_details: {
        name: billing.name,
        email: billing.email,
        phone: billing.phone,
        address: { postal_code: postal, ...billing.address },
      },
    });
    try {
      const response = await fetch("/v1/payment_methods", {
        method: "POST",
        headers: { Authorization: `Bearer ${setup.publishableKey}` },
        body,
      });
      const reply = await response.json();
      return reply.error ? { error: reply.error } : { paymentMethod: reply };
    } catch {
      const message = "We could not reach the payment provider. Please try again.";
      return { error: { type: "api_connection_error", message } };
    }
  }

  // ---------------------------------------------------------------- looks

  const VARIABLES = {
    colorPrimary: "--primary",
    colorBackground: "--background",
    colorText: "--text",
    colorTextSecondary: "--text-secondary",
    colorTextPlaceholder: "--placeholder",
    colorDanger: "--danger",
    fontFamily: "--font",
    fontSizeBase: "--size",
    borderRadius: "--radius",
    spacingUnit: "--unit",
  };

  function dress({ appearance = {}, options = {} }) {
    const root = document.documentElement;
    root.dataset.theme = appearance.theme ?? "stripe";
    for (const [name, property] of Object.entries(VARIABLES)) {
      const value = appearance.variables?.[name];
      if (value) root.style.setProperty(property, value);
    }
    const { base = {}, invalid = {} } = options.style ?? {};
    const given = {
      "--text": base.color,
      "--font": base.fontFamily,
      "--size": base.fontSize,
      "--placeholder": base["::placeholder"]?.color,
      "--danger": invalid.color,
    };
    for (const [property, value] of Object.entries(given)) {
      if (value) root.style.setProperty(property, value);
    }
    const postal = field("postal");
    if (postal) {
      postal.disabled = options.hidePostalCode === true;
      postal.closest(".cell").hidden = postal.disabled;
    }
    disabledByPage = options.disabled === true;
    applyLock();
  }

  /** Until it is ready nothing can be typed: the page would not learn of it. */
  function applyLock() {
    form.querySelector("fieldset.all").disabled = !ready || disabledByPage;
  }

  let lastHeight = 0;
  function measure() {
    const height = Math.ceil(form.getBoundingClientRect().height);
    if (!port || height === lastHeight) return;
    lastHeight = height;
    port.postMessage({ event: "resize", detail: { height } });
  }

  function showBrand() {
    const brand = brandOf(digits(field("number").value));
    const badge = document.getElementById("brand");
    badge.dataset.brand = brand.name;
    badge.textContent = brand.badge;
    document.getElementById("brand-name").textContent = brand.label;
    field("cvc").placeholder = brand.cvc === 4 ? "1234" : "CVC";
  }

  // ---------------------------------------------------------------- what the page asks for

  const CALLS = {
    tokenize,
    validate: () => ({ error: validate() ?? undefined }),
    update: (message) => {
      dress(message);
      measure();
    },
    focus: () => {
      // A shopper who is quicker than the page stays where she types.
      if (!form.contains(document.activeElement)) (required()[0] ?? fields[0]).focus();
    },
    blur: () => document.activeElement?.blur(),
    clear: () => {
      form.reset();
      touched.clear();
      fields.forEach((input) => show(input, null));
      showBrand();
      tellChange();
      measure();
    },
  };

  async function connect(newSetup, newPort) {
    setup = newSetup;
    port = newPort;
    dress(setup);
    port.onmessage = async ({ data }) => {
      const result = await CALLS[data.call]?.(data);
      if (data.id) port.postMessage({ answer: data.id, result });
    };
    const failure = await learnMethods();
    if (failure) port.postMessage({ event: "loaderror", detail: { error: failure } });
    ready = !failure;
    applyLock();
    showBrand();
    measure();
    new ResizeObserver(measure).observe(form);
    lastChange = JSON.stringify(describe());
    if (!failure) port.postMessage({ event: "ready", detail: {} });
  }

  /** A payment Element offers what its PaymentIntent allows. */
  async function learnMethods() {
    const chooser = document.getElementById("methods");
    if (!setup.clientSecret || !chooser) return null;
    const id = setup.clientSecret.split("_secret_")[0];
    const query = new URLSearchParams({ client_secret: setup.clientSecret });
    try {
      const response = await fetch(`/v1/payment_intents/${id}?${query}`, {
        headers: { Authorization: `Bearer ${setup.publishableKey}` },
      });
      const reply = await response.json();
      if (reply.error) return reply.error;
      const choices = [...chooser.querySelectorAll("input")];
      const offered = choices.filter(({ dataset }) => reply.payment_method_types.includes(dataset.type));
      for (const choice of choices) choice.parentElement.hidden = !offered.includes(choice);
      chooser.hidden = offered.length < 2;
      if (offered.length && !offered.includes(chosen())) {
        offered[0].checked = true;
        form.dataset.method = offered[0].value;
      }
      return null;
    } catch {
      return { type: "api_connection_error", message: "The sandbox does not answer." };
    }
  }

  window.addEventListener("message", ({ source, data, ports }) => {
    const asked = source === window.parent && data?.stripeSandbox === "connect";
    if (asked && !port && ports[0]) connect(data.setup, ports[0]);
  });

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    if (!port || !fields.includes(target)) return;
    reformat(target);
    if (target.name === "number") showBrand();
    const error = check(target);
    // While typing a complaint only goes away, or comes with the last digit there can be.
    const number = target.name === "number" ? digits(target.value) : null;
    const last = number === null || number.length === longest(brandOf(number));
    const finished = error && last && !error.code.startsWith("incomplete_");
    if (finished) touched.add(target.name);
    if (!error || finished) show(target, error);
    if (setup.type === "card" && !error && last) advance(target);
    tellChange();
    measure();
  });
  form.addEventListener("change", ({ target }) => {
    if (target.name === "method") {
      form.dataset.method = target.value;
      tellChange();
      measure();
    }
  });
  form.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") port?.postMessage({ event: "escape", detail: {} });
  });
  form.addEventListener("focusin", () => port?.postMessage({ event: "focus", detail: {} }));
  form.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (!port) return;
    if (fields.includes(target) && target.value) {
      touched.add(target.name);
      show(target, check(target));
      measure();
      tellChange();
    }
    if (!form.contains(relatedTarget)) port.postMessage({ event: "blur", detail: {} });
  });

  /** In the one-line card Element a full field hands the cursor on. */
  function advance(input) {
    if (input.name === "postal" || input.selectionStart !== input.value.length) return;
    const next = required()[required().indexOf(input) + 1];
    if (next && next.value === "") next.focus();
  }
})();
