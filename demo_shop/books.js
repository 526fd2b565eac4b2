// The shelf. Prices in cents; `credits` is the price of the same book in credits.

export const BOOKS = [
  { id: "lighthouse-clock", title: "The Lighthouse Clock", author: "M. Arden", cents: 1299, credits: 2, colours: ["#173753", "#f2c14e", "#e4572e"], drawing: "lighthouse" },
  { id: "guide-to-clouds", title: "A Field Guide to Clouds", author: "Ines Valk", cents: 899, credits: 1, colours: ["#a8d0e6", "#f7f9fb", "#2f5d7c"], drawing: "clouds" },
  { id: "owls-at-midnight", title: "Owls at Midnight", author: "T. Okafor", cents: 1599, credits: 3, colours: ["#2b1f4b", "#f5d547", "#8d7bd6"], drawing: "owl" },
  { id: "salt-and-paper", title: "Salt and Paper", author: "Lena Brandt", cents: 1099, credits: 2, colours: ["#e7ded0", "#b5442e", "#33413f"], drawing: "waves" },
  { id: "night-ferry", title: "The Night Ferry", author: "J. Moreau", cents: 1450, credits: 2, colours: ["#0e2a2f", "#ffb56b", "#4d8b91"], drawing: "ferry" },
  { id: "small-engines", title: "Small Engines, Large Hearts", author: "Pia Sato", cents: 750, credits: 1, colours: ["#f0b7a4", "#7a1f3d", "#fff4e6"], drawing: "gears" },
];

export const bookById = (id) => BOOKS.find((book) => book.id === id);

export const money = (cents, currency = "usd") =>
  new Intl.NumberFormat("en-US", { style: "currency", currency }).format(cents / 100);

export const creditsText = (count) => (count === 1 ? "1 credit" : `${count} credits`);

const DRAWINGS = {
  lighthouse: ([, light, stripe]) => `
    <path d="M0 120h120v60H0z" fill="#0f2438"/><path d="M52 60h16l6 72H46z" fill="#f7f3ea"/>
    <path d="M50.500 78h19l1.500 16H49zM48 110h24l1.500 16H46.500z" fill="${stripe}"/>
    <path d="M51 48h18v12H51z" fill="${light}"/><path d="M69 50l51-18v34zM51 50L0 32v34z" fill="${light}" opacity=".35"/>`,
  clouds: ([, white, dark]) => `
    <g fill="${white}"><ellipse cx="40" cy="66" rx="26" ry="14"/><ellipse cx="58" cy="56" rx="22" ry="18"/>
    <ellipse cx="80" cy="68" rx="24" ry="12"/><ellipse cx="78" cy="112" rx="30" ry="14"/><ellipse cx="56" cy="116" rx="22" ry="10"/></g>
    <path d="M16 150h88M28 158h64" stroke="${dark}" stroke-width="2" opacity=".5"/>`,
  owl: ([, gold, violet]) => `
    <circle cx="92" cy="40" r="14" fill="${gold}"/><path d="M34 150V96c0-34 52-34 52 0v54z" fill="${violet}"/>
    <path d="M36 84l-2-22 16 12zM84 84l2-22-16 12z" fill="${violet}"/><circle cx="49" cy="94" r="11" fill="#fff"/>
    <circle cx="71" cy="94" r="11" fill="#fff"/><circle cx="50" cy="95" r="5" fill="#1d1433"/><circle cx="70" cy="95" r="5" fill="#1d1433"/>
    <path d="M60 100l-5 8h10z" fill="${gold}"/><path d="M10 150h100" stroke="#120b24" stroke-width="6"/>`,
  waves: ([, red, dark]) => `
    <circle cx="60" cy="78" r="24" fill="${red}"/>
    <g fill="none" stroke="${dark}" stroke-width="5"><path d="M0 118q15-14 30 0t30 0 30 0 30 0"/><path d="M0 136q15-14 30 0t30 0 30 0 30 0"/>
    <path d="M0 154q15-14 30 0t30 0 30 0 30 0"/></g>`,
  ferry: ([, lamp, sea]) => `
    <path d="M0 124h120v56H0z" fill="${sea}"/><path d="M18 106h84l-12 22H30z" fill="#f5efe4"/><path d="M34 88h50v18H34z" fill="#dfe8e6"/>
    <path d="M68 66h12v22H68z" fill="${lamp}"/><g fill="${lamp}"><circle cx="44" cy="97" r="4"/><circle cx="58" cy="97" r="4"/><circle cx="72" cy="97" r="4"/></g>
    <path d="M30 140h60M46 152h40" stroke="${lamp}" stroke-width="3" opacity=".5"/>`,
  gears: ([, wine, cream]) => `
    <g fill="none" stroke="${wine}" stroke-width="9"><circle cx="48" cy="82" r="22" stroke-dasharray="9 5"/><circle cx="82" cy="122" r="15" stroke-dasharray="7 5"/></g>
    <path d="M48 92c-16-10-8-22 0-14 8-8 16 4 0 14z" fill="${wine}"/><circle cx="82" cy="122" r="5" fill="${cream}"/>`,
};

/** A cover, drawn. The title is on the page beside it, so to a screen reader this is decoration. */
export function cover(book) {
  const [ground] = book.colours;
  const template = document.createElement("template");
  template.innerHTML = `<svg class="cover" viewBox="0 0 120 170" aria-hidden="true" focusable="false">
    <rect width="120" height="170" fill="${ground}"/>${DRAWINGS[book.drawing](book.colours)}
    <path d="M6 0v170" stroke="#000" opacity=".16" stroke-width="3"/></svg>`;
  return template.content.firstElementChild;
}
