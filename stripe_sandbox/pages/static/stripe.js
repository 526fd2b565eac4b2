/*
 * A stand-in for Stripe.js, served by the Stripe sandbox: https://docs.stripe.com/js
 *
 * A page that is written for Stripe Elements runs against the sandbox when it takes this script
 * instead of https://js.stripe.com/... Everything else stays as it is.
 *
 * As with the real one, card details never reach the page: an Element is an iframe of the sandbox's
 * own origin. It keeps what is typed and gives this script no more than a PaymentMethod. They talk
 * over a MessageChannel that is made when the iframe has loaded (element.js is the other end).
 */
(() => {
  "use strict";

  const address = new URL(document.currentScript.src);
  const SANDBOX = address.origin;
  const VERSION = address.pathname.startsWith("/v3") ? 3 : address.pathname.split("/")[1];

  const ELEMENT_TYPES = ["payment", "card"];
  const NOT_SIMULATED = [
    "collectBankAccountForPayment", "confirmAcssDebitPayment", "confirmAlipayPayment",
    "confirmBancontactPayment", "confirmCardSetup", "confirmIdealPayment", "confirmKlarnaPayment",
    "confirmSepaDebitPayment", "confirmSetup", "confirmUsBankAccountPayment",
    "createConfirmationToken", "createEphemeralKeyNonce", "createRadarSession", "createSource",
    "createToken", "initCheckout", "initEmbeddedCheckout", "paymentRequest", "redirectToCheckout",
    "retrieveSetupIntent", "retrieveSource", "verifyIdentity",
  ];

  /** A mistake in the page's own code: thrown, where a failed payment is a returned `error`. */
  class IntegrationError extends Error {
    constructor(message) {
      super(message);
      this.name = "IntegrationError";
    }
  }

  const never = () => new Promise(() => {});

  // ---------------------------------------------------------------- the API, with a publishable key

  /** Nested parameters as Stripe's API takes them: a[b][0]=c. */
  function encode(params, prefix = "", form = new URLSearchParams()) {
    for (const [name, value] of Object.entries(params)) {
      const key = prefix ? `${prefix}[${name}]` : name;
      if (value === undefined || value === null) continue;
      if (typeof value === "object") encode(value, key, form);
      else form.append(key, String(value));
    }
    return form;
  }

  async function callApi(publishableKey, method, path, params) {
    const form = encode(params);
    const query = method === "GET" ? `?${form}` : "";
    try {
      const response = await fetch(`${SANDBOX}${path}${query}`, {
        method,
        headers: { Authorization: `Bearer ${publishableKey}` },
        body: method === "GET" ? undefined : form,
      });
      return await response.json();
    } catch {
      const message = "We are experiencing issues connecting to our payments provider. " +
        "Please check your internet connection and try again.";
      return { error: { type: "api_connection_error", message } };
    }
  }

  /** pi_123_secret_456 -> pi_123 */
  function intentIdOf(clientSecret, caller) {
    const match = /^(pi_\w+?)_secret_\w+$/.exec(clientSecret ?? "");
    if (!match) {
      throw new IntegrationError(
        `Invalid value for ${caller}: the client secret should look like ` +
          "${id}_secret_${secret}. You specified: " + String(clientSecret).slice(0, 6) + "…"
      );
    }
    return match[1];
  }

  // ---------------------------------------------------------------- Elements

  /** on, once and off, shared by Elements. */
  class Listeners {
    #listeners = new Map();

    on(type, listener) {
      if (typeof listener !== "function") {
        throw new IntegrationError(`Invalid handler for the event "${type}": not a function.`);
      }
      this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
      return this;
    }

    once(type, listener) {
      const first = (event) => {
        this.off(type, first);
        listener(event);
      };
      return this.on(type, first);
    }

    off(type, listener) {
      const kept = (this.#listeners.get(type) ?? []).filter((each) => listener && each !== listener);
      this.#listeners.set(type, kept);
      return this;
    }

    _emit(type, event) {
      for (const listener of this.#listeners.get(type) ?? []) listener(event);
    }
  }

  /** One Element. Methods that begin with an underscore are for this file only. */
  class Element extends Listeners {
    #type;
    #group;
    #options;
    #container = null;
    #frame = null;
    #port = null;
    #connected = null;
    #calls = new Map();
    #destroyed = false;

    constructor(type, group, options) {
      super();
      this.#type = type;
      this.#group = group;
      this.#options = options;
    }

    get _type() {
      return this.#type;
    }

    mount(target) {
      if (this.#destroyed) throw new IntegrationError("This Element has been destroyed.");
      const container = typeof target === "string" ? document.querySelector(target) : target;
      if (!(container instanceof window.Element)) {
        throw new IntegrationError(
          `Invalid DOM element: the selector you specified (${target}) applies to no DOM elements ` +
            "that are currently on the page."
        );
      }
      if (this.#container === container) return this;
      this.unmount();
      this.#container = container;
      container.replaceChildren();
      container.classList.add("StripeElement", "StripeElement--empty");

      const frame = document.createElement("iframe");
      frame.title = this.#type === "card"
        ? "Secure card payment input frame"
        : "Secure payment input frame";
      frame.name = `__privateStripeFrame${Math.random().toString(36).slice(2, 8)}`;
      frame.allow = "payment *";
      frame.setAttribute("scrolling", "no");
      Object.assign(frame.style, {
        display: "block", width: "100%", border: "0", margin: "0", colorScheme: "light dark",
        // Close to what it will be, so that the page hardly moves when the frame tells its height.
        height: this.#type === "card" ? "24px" : "212px",
      });
      this.#frame = frame;
      this.#connected = new Promise((resolve) => {
        frame.addEventListener("load", () => this.#connect(frame, resolve), { once: true });
      });
      frame.src = `${SANDBOX}/elements/${this.#type}`;
      this._emit("loaderstart", { elementType: this.#type });
      const wrapper = document.createElement("div");
      wrapper.className = "__PrivateStripeElement";
      wrapper.append(frame);
      container.append(wrapper);
      return this;
    }

    unmount() {
      this.#port?.close();
      this.#frame?.parentElement?.remove();
      this.#container?.classList.remove(
        "StripeElement", "StripeElement--empty", "StripeElement--complete",
        "StripeElement--focus", "StripeElement--invalid"
      );
      for (const settle of this.#calls.values()) {
        settle({ error: { type: "invalid_request_error", message: "The Element was unmounted." } });
      }
      this.#calls.clear();
      this.#container = this.#frame = this.#port = this.#connected = null;
      return this;
    }

    destroy() {
      this.unmount();
      this.#destroyed = true;
      this.#group._forget(this);
      return this;
    }

    update(options) {
      this.#options = { ...this.#options, ...options };
      this.#tell("update", { options: this.#options, appearance: this.#group._appearance });
      return this;
    }

    focus() {
      // To focus a frame takes the cursor from the field in it.
      if (document.activeElement !== this.#frame) this.#frame?.focus();
      this.#tell("focus");
      return this;
    }

    blur() {
      this.#tell("blur");
      return this;
    }

    clear() {
      this.#tell("clear");
      return this;
    }

    collapse() {
      return this;
    }

    /** Ask the iframe for something and wait for its answer. */
    async _ask(name, details = {}) {
      if (!this.#frame) {
        throw new IntegrationError(
          "We could not retrieve data from the specified Element. Please make sure the Element " +
            "you are attempting to use is still mounted."
        );
      }
      const port = await this.#connected;
      return new Promise((resolve) => {
        const id = crypto.getRandomValues(new Uint32Array(2)).join("-");
        this.#calls.set(id, resolve);
        port.postMessage({ call: name, id, ...details });
      });
    }

    #tell(name, details = {}) {
      this.#connected?.then((port) => port.postMessage({ call: name, ...details }));
    }

    #connect(frame, resolve) {
      const channel = new MessageChannel();
      this.#port = channel.port1;
      this.#port.onmessage = ({ data }) => this.#hear(data);
      const setup = {
        type: this.#type,
        publishableKey: this.#group._publishableKey,
        clientSecret: this.#group._clientSecret,
        appearance: this.#group._appearance,
        options: this.#options,
      };
      // Functions and DOM nodes cannot be posted, and the iframe has no use for them.
      const message = { stripeSandbox: "connect", setup: JSON.parse(JSON.stringify(setup)) };
      frame.contentWindow.postMessage(message, SANDBOX, [channel.port2]);
      resolve(channel.port1);
    }

    #hear(message) {
      if (message.answer) {
        this.#calls.get(message.answer)?.(message.result);
        this.#calls.delete(message.answer);
      } else if (message.event === "resize") {
        this.#frame.style.height = `${message.detail.height}px`;
      } else if (message.event) {
        this.#markContainer(message.event, message.detail);
        const detail = { elementType: this.#type, ...message.detail };
        this._emit(message.event, message.event === "ready" ? { elementType: this.#type } : detail);
      }
    }

    #markContainer(event, detail) {
      const marks = this.#container.classList;
      if (event === "focus") marks.add("StripeElement--focus");
      if (event === "blur") marks.remove("StripeElement--focus");
      if (event === "change") {
        marks.toggle("StripeElement--empty", detail.empty);
        marks.toggle("StripeElement--complete", detail.complete);
        marks.toggle("StripeElement--invalid", Boolean(detail.error));
      }
    }
  }

  /** What `stripe.elements()` makes: Elements that belong together. */
  class ElementsGroup {
    #elements = new Map();
    #options;

    constructor(publishableKey, options) {
      this._publishableKey = publishableKey;
      this.#options = options;
      if (options.clientSecret !== undefined) intentIdOf(options.clientSecret, "elements()");
    }

    get _clientSecret() {
      return this.#options.clientSecret;
    }

    get _appearance() {
      return this.#options.appearance ?? {};
    }

    create(type, options = {}) {
      if (!ELEMENT_TYPES.includes(type)) {
        throw new IntegrationError(
          `The sandbox's Stripe.js does not simulate the "${type}" Element. It has: ` +
            `${ELEMENT_TYPES.join(", ")}.`
        );
      }
      if (this.#elements.has(type)) {
        throw new IntegrationError(`Can only create one Element of type ${type} through elements().`);
      }
      if (type === "payment" && !this.#options.clientSecret && !this.#options.mode) {
        throw new IntegrationError(
          "In order to create a payment Element, you must pass a clientSecret or a mode to elements()."
        );
      }
      const element = new Element(type, this, options);
      this.#elements.set(type, element);
      return element;
    }

    getElement(type) {
      return this.#elements.get(type) ?? null;
    }

    update(options) {
      this.#options = { ...this.#options, ...options };
      for (const element of this.#elements.values()) element.update({});
    }

    async fetchUpdates() {
      return {};
    }

    /** Checks what was typed and shows what is wrong with it. */
    async submit() {
      const element = this.getElement("payment") ?? this.getElement("card");
      if (!element) throw new IntegrationError("elements.submit() needs a mounted Element.");
      const { error } = await element._ask("validate");
      return error ? { error } : { selectedPaymentMethod: "card" };
    }

    _forget(element) {
      this.#elements.delete(element._type);
    }
  }

  // ---------------------------------------------------------------- 3-D Secure

  /** The bank's page in a window of its own, over the page. Resolves when it is answered. */
  function authenticateInModal(url) {
    return new Promise((resolve) => {
      const dialog = document.createElement("dialog");
      dialog.setAttribute("aria-label", "3-D Secure: your bank asks you to confirm");
      Object.assign(dialog.style, {
        border: "0", padding: "0", borderRadius: "12px", overflow: "hidden", background: "#fff",
        width: "min(500px, calc(100vw - 24px))", height: "min(560px, calc(100dvh - 24px))",
        maxWidth: "none", maxHeight: "none", margin: "auto",
        boxShadow: "0 0 0 100vmax rgba(10, 20, 40, .45), 0 20px 60px rgba(10, 20, 40, .4)",
      });
      const frame = document.createElement("iframe");
      frame.src = url;
      frame.title = "3-D Secure";
      Object.assign(frame.style, { border: "0", width: "100%", height: "100%", display: "block" });

      function hear(message) {
        const { origin, source, data } = message;
        const ours = origin === SANDBOX && source === frame.contentWindow;
        if (!ours || data?.stripeSandbox !== "authenticated") return;
        window.removeEventListener("message", hear);
        dialog.close();
        dialog.remove();
        resolve();
      }
      window.addEventListener("message", hear);
      // Leaving is refusing, and only the bank's page can refuse.
      dialog.addEventListener("cancel", (event) => {
        event.preventDefault();
        frame.contentWindow.postMessage({ stripeSandbox: "refuse" }, SANDBOX);
      });
      dialog.append(frame);
      document.body.append(dialog);
      dialog.showModal();
      frame.focus();
    });
  }

  // ---------------------------------------------------------------- Stripe()

  class StripeInstance {
    #key;
    #options;

    constructor(publishableKey, options) {
      this.#key = publishableKey;
      this.#options = options;
    }

    elements(options = {}) {
      return new ElementsGroup(this.#key, options);
    }

    async retrievePaymentIntent(clientSecret) {
      const id = intentIdOf(clientSecret, "stripe.retrievePaymentIntent()");
      return this.#intentOf(
        await this.#call("GET", `/v1/payment_intents/${id}`, { client_secret: clientSecret })
      );
    }

    async createPaymentMethod({ elements, params, type, card, billing_details: billing } = {}) {
      const element = elements ? elementOf(elements) : card;
      if (!(element instanceof Element) || (type !== undefined && type !== "card")) {
        throw new IntegrationError(
          'stripe.createPaymentMethod() takes {type: "card", card: element} or {elements}.'
        );
      }
      const { error, paymentMethod } = await element._ask("tokenize", {
        billing: billing ?? params?.billing_details,
      });
      return error ? { error } : { paymentMethod };
    }

    async confirmPayment({ elements, clientSecret, confirmParams = {}, redirect = "always" } = {}) {
      const secret = clientSecret ?? elements?._clientSecret;
      const id = intentIdOf(secret, "stripe.confirmPayment()");
      if (redirect === "always" && !confirmParams.return_url) {
        throw new IntegrationError(
          "stripe.confirmPayment() needs confirmParams.return_url unless redirect is 'if_required'."
        );
      }
      let method = confirmParams.payment_method;
      if (elements) {
        const element = elementOf(elements);
        const billing = confirmParams.payment_method_data?.billing_details;
        const { error, paymentMethod } = await element._ask("tokenize", { billing });
        if (error) return { error };
        method = paymentMethod.id;
      }
      const confirmed = await this.#confirm(id, {
        client_secret: secret,
        payment_method: method,
        receipt_email: confirmParams.receipt_email,
        shipping: confirmParams.shipping,
        // With a return_url the bank's page takes the whole window, without it a part of this one.
        return_url: redirect === "always" ? confirmParams.return_url : undefined,
      });
      if (confirmed.error) return confirmed;
      const result = await this.#act(confirmed.paymentIntent);
      if (result.error || redirect !== "always") return result;
      window.location.assign(returnAddress(confirmParams.return_url, result.paymentIntent));
      return never();
    }

    async confirmCardPayment(clientSecret, data = {}, { handleActions = true } = {}) {
      const id = intentIdOf(clientSecret, "stripe.confirmCardPayment()");
      let method = data.payment_method;
      if (method && typeof method === "object") {
        if (!(method.card instanceof Element)) {
          throw new IntegrationError(
            "stripe.confirmCardPayment() takes payment_method: {card: element} or an id."
          );
        }
        const { error, paymentMethod } = await method.card._ask("tokenize", {
          billing: method.billing_details,
        });
        if (error) return { error };
        method = paymentMethod.id;
      }
      const confirmed = await this.#confirm(id, {
        client_secret: clientSecret,
        payment_method: method,
        receipt_email: data.receipt_email,
        shipping: data.shipping,
        setup_future_usage: data.setup_future_usage,
        return_url: data.return_url,
      });
      if (confirmed.error || !handleActions) return confirmed;
      return this.#act(confirmed.paymentIntent);
    }

    async handleNextAction({ clientSecret } = {}) {
      const found = await this.retrievePaymentIntent(clientSecret);
      return found.error ? found : this.#act(found.paymentIntent);
    }

    handleCardAction(clientSecret) {
      return this.handleNextAction({ clientSecret });
    }

    /** The loader tells its own version; there is nobody here to tell it to. */
    _registerWrapper() {}

    registerAppInfo() {}

    #call(method, path, params) {
      return callApi(this.#key, method, path, params);
    }

    async #confirm(id, params) {
      const path = `/v1/payment_intents/${id}/confirm`;
      return this.#intentOf(await this.#call("POST", path, { ...params, use_stripe_sdk: true }));
    }

    #intentOf(reply) {
      return reply.error ? { error: reply.error } : { paymentIntent: reply };
    }

    /** Does what the PaymentIntent still waits for, and tells how it is afterwards. */
    async #act(intent) {
      const action = intent.status === "requires_action" ? intent.next_action : null;
      if (action?.type === "redirect_to_url") {
        window.location.assign(action.redirect_to_url.url);
        return never();
      }
      if (action?.type !== "use_stripe_sdk") return { paymentIntent: intent };
      await authenticateInModal(action.use_stripe_sdk.stripe_js);
      const found = await this.retrievePaymentIntent(intent.client_secret);
      const failure = found.paymentIntent?.last_payment_error;
      return failure && found.paymentIntent.status === "requires_payment_method"
        ? { error: { ...failure, payment_intent: found.paymentIntent } }
        : found;
    }
  }

  for (const name of NOT_SIMULATED) {
    StripeInstance.prototype[name] = () => {
      throw new IntegrationError(`The sandbox's Stripe.js does not simulate stripe.${name}().`);
    };
  }

  function elementOf(elements) {
    const element = elements.getElement("payment") ?? elements.getElement("card");
    if (!element) {
      throw new IntegrationError("The `elements` you passed have no payment or card Element.");
    }
    return element;
  }

  /** return_url with what Stripe adds to it. */
  function returnAddress(returnUrl, intent) {
    const address = new URL(returnUrl);
    const status = {
      succeeded: "succeeded", requires_capture: "succeeded", processing: "pending",
      requires_action: "pending",
    };
    address.searchParams.append("payment_intent", intent.id);
    address.searchParams.append("payment_intent_client_secret", intent.client_secret);
    address.searchParams.append("redirect_status", status[intent.status] ?? "failed");
    return address.href;
  }

  window.Stripe = function Stripe(publishableKey, options = {}) {
    if (typeof publishableKey !== "string" || publishableKey.trim() === "") {
      throw new IntegrationError(
        "Please call Stripe() with your publishable key. You used an empty string."
      );
    }
    if (/^(sk|rk)_/.test(publishableKey)) {
      throw new IntegrationError(
        "You should not use your secret key with Stripe.js. Please pass a publishable key instead."
      );
    }
    if (!publishableKey.startsWith("pk_test_")) {
      throw new IntegrationError(
        "This is the sandbox's Stripe.js: it takes publishable keys that begin with pk_test_."
      );
    }
    return new StripeInstance(publishableKey, options);
  };
  window.Stripe.version = VERSION;
})();
