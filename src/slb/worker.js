// Roadstead's load balancer: a Cloudflare Worker that spreads requests over the origins its bindings name.
//
// Bindings, all plain text:
//   ORIGINS            "https://a.example.com,https://b.example.com;weight=2;priority=1", or a JSON list of URLs or of
//                      {"url", "weight", "priority"}. Weight 1 and priority 0 unless given; lower priorities first.
//   STRATEGY           round-robin (default), random, failover
//   RETRIES            further origins to try, 0 to 5 (default 1)
//   ORIGIN_TIMEOUT_MS  how long an origin may take to begin its answer (default 8000)
//   FAIL_STATUSES      answers after which the next origin is tried, "500,502-504" (default below)
//   STICKY             none (default), cookie, client-ip
//   HEALTH_PATH        answered here (default /__lb/health)
//   PROBE_PATH         asked before a request that must not be repeated (default /)
//
// What it promises:
//   - A request that is not idempotent reaches at most one origin, once, unless it carries Idempotency-Key. The origin is
//     asked first whether it answers at all, if it has not just done so: a dead one costs nothing but that question.
//   - A body that is not small and of known length is never held in memory and never sent twice.
//   - Nothing here tells a client which origins there are.

const DEFAULT_FAIL_STATUSES = "500,502-504,520-527,530";
const DEFAULT_TIMEOUT_MS = 8000;
const DEFAULT_RETRIES = 1;
const MOST_RETRIES = 5;
// How long an origin that failed is tried last.
const FAILING_MS = 10_000;
// How long an answer proves that an origin is there.
const ALIVE_MS = 5_000;
// The largest body that is kept so that an idempotent request can be sent again.
const LARGEST_KEPT_BODY = 1 << 20;
const RETRY_AFTER_S = 5;
const COOKIE = "roadstead_lb";
// RFC 9110, section 9.2.2.
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

// Each isolate remembers for itself; an isolate may end at any time.
const failingUntil = new Map();
const aliveUntil = new Map();
const turns = new Map();
let current = { env: null, settings: null };

export default {
  async fetch(request, env) {
    const settings = settingsOf(env);
    const url = new URL(request.url);
    if (url.pathname === settings.healthPath) return health(settings);
    if (settings.origins.length === 0) return unavailable("no origin is available");
    // The runtime sends no such request on, and dropping the body would change its meaning.
    if (/^(GET|HEAD)$/.test(request.method) && request.body !== null) {
      return problem(400, `a ${request.method} request with a body cannot be passed on: send it without`);
    }
    const order = arrange(settings, request, Date.now()).slice(0, 1 + settings.retries);
    const response = await serve(request, url, order, settings);
    return settings.sticky === "cookie" ? remembered(request, url, response) : response.response;
  },
};

/** Sends the request, and gives the response with the origin it came from, if it came from one. */
async function serve(request, url, order, settings) {
  const repeatable = IDEMPOTENT.has(request.method) || request.headers.has("Idempotency-Key");
  if (repeatable && request.body === null) return tryEach(request, url, null, order, settings);
  if (repeatable && isSmall(request)) {
    return tryEach(request, url, await request.arrayBuffer(), order, settings);
  }
  return sendOnce(request, url, order, settings);
}

/** Tries one origin after the other, until one gives an answer that is no failure. */
async function tryEach(request, url, body, order, settings) {
  let last = null;
  for (const origin of order) {
    const limit = new Limit(settings.timeoutMs);
    limit.start();
    const response = await send(request, url, body, origin, limit);
    if (response === null) continue;
    last?.response.body?.cancel();
    last = { response, origin };
    if (!settings.failStatuses.has(response.status)) return last;
  }
  return last ?? { response: unavailable("no origin answered"), origin: null };
}

/** Finds an origin that answers, and sends the request there and nowhere else. */
async function sendOnce(request, url, order, settings) {
  for (const origin of order) {
    if (!(await isThere(origin, settings))) continue;
    const limit = new Limit(settings.timeoutMs);
    const response = await send(request, url, counted(request, limit), origin, limit);
    if (response !== null) return { response, origin };
    const told = limit.passed ? "did not answer in time" : "broke the connection";
    const message = `the origin ${told}; the request may have been processed and was not repeated`;
    return { response: problem(limit.passed ? 504 : 502, message), origin: null };
  }
  return { response: unavailable("no origin answered"), origin: null };
}

/** One attempt; null without an answer from the origin itself. */
async function send(request, url, body, origin, limit) {
  const target = origin.url + url.pathname + url.search;
  const headers = new Headers(request.headers);
  headers.set("X-Forwarded-Host", url.host);
  headers.set("X-Forwarded-Proto", url.protocol.slice(0, -1));
  // Made outside of the attempt: what cannot be made says nothing against the origin.
  const copy = new Request(target, { method: request.method, headers, body, redirect: "manual", signal: limit.signal });
  try {
    const response = await fetch(copy);
    limit.end();
    if (note(origin, response.status)) return response;
    response.body?.cancel();
  } catch {
    limit.end();
    note(origin, null);
  }
  return null;
}

/** Whether the origin answers at all: as it just did, or else a question that changes nothing. */
async function isThere(origin, settings) {
  if (aliveUntil.get(origin.url) > Date.now()) return true;
  const limit = new Limit(settings.timeoutMs);
  limit.start();
  try {
    const init = { method: "HEAD", redirect: "manual", signal: limit.signal };
    const response = await fetch(origin.url + settings.probePath, init);
    return note(origin, response.status);
  } catch {
    return note(origin, null);
  } finally {
    limit.end();
  }
}

/** Remembers what an attempt showed; false if the origin gave no answer of its own. */
function note(origin, status) {
  // Cloudflare's own answers in place of an origin that is not there.
  const answered = status !== null && !(status >= 520 && status <= 527) && status !== 530;
  // 502 to 504 speak of the origin as a whole, other statuses of the one request.
  if (answered && (status < 502 || status > 504)) {
    failingUntil.delete(origin.url);
    aliveUntil.set(origin.url, Date.now() + ALIVE_MS);
  } else {
    aliveUntil.delete(origin.url);
    failingUntil.set(origin.url, Date.now() + FAILING_MS);
  }
  return answered;
}

/** The time an origin has to begin its answer. It runs from `start` on, and stops at `end`. */
class Limit {
  constructor(ms) {
    this.ms = ms;
    this.controller = new AbortController();
    this.ended = false;
    this.passed = false;
  }

  get signal() {
    return this.controller.signal;
  }

  start() {
    if (this.ended || this.timer !== undefined) return;
    this.timer = setTimeout(() => {
      this.passed = true;
      this.controller.abort();
    }, this.ms);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
  }
}

/** The request's body as it comes. The time to answer runs once the origin has all of it. */
function counted(request, limit) {
  if (request.body === null) {
    limit.start();
    return null;
  }
  const length = bodyLength(request);
  const { readable, writable } = length === null ? new IdentityTransformStream() : new FixedLengthStream(length);
  // A break shows in the attempt itself.
  request.body.pipeTo(writable).then(() => limit.start(), () => {});
  return readable;
}

function isSmall(request) {
  const length = bodyLength(request);
  return length !== null && length <= LARGEST_KEPT_BODY;
}

function bodyLength(request) {
  const text = request.headers.get("Content-Length");
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** All origins, in the order in which this request should try them. */
function arrange(settings, request, now) {
  const isGood = (origin) => !(failingUntil.get(origin.url) > now);
  const good = spread(settings, request, settings.origins.filter(isGood));
  const failing = settings.origins.filter((origin) => !isGood(origin));
  failing.sort((a, b) => failingUntil.get(a.url) - failingUntil.get(b.url));
  const order = [...good, ...failing];
  const held = settings.sticky === "cookie" ? cookieOf(request) : null;
  const kept = good.find((origin) => origin.id === held);
  return kept === undefined ? order : [kept, ...order.filter((origin) => origin !== kept)];
}

function spread(settings, request, origins) {
  const client = settings.sticky === "client-ip" ? request.headers.get("CF-Connecting-IP") : null;
  // Rendezvous hashing: when an origin goes, only its own clients move.
  if (client !== null) return drawn(origins, (origin) => (hash(`${client} ${origin.url}`) + 0.5) / 2 ** 32);
  switch (settings.strategy) {
    case "failover":
      return origins.toSorted((a, b) => a.priority - b.priority);
    case "random":
      return drawn(origins, () => 1 - Math.random());
    default:
      return inTurn(origins);
  }
}

/** Ordered by a draw in (0, 1] for each, so that each comes first as often as its weight says. */
function drawn(origins, draw) {
  const keyed = origins.map((origin) => ({ origin, key: -Math.log(draw(origin)) / origin.weight }));
  return keyed.sort((a, b) => a.key - b.key).map(({ origin }) => origin);
}

/** Smooth weighted round-robin: every origin gains its weight, and the one that comes first pays for all. */
function inTurn(origins) {
  if (origins.length === 0) return [];
  let total = 0;
  for (const origin of origins) {
    total += origin.weight;
    turns.set(origin.url, (turns.get(origin.url) ?? 0) + origin.weight);
  }
  const order = origins.toSorted((a, b) => turns.get(b.url) - turns.get(a.url));
  turns.set(order[0].url, turns.get(order[0].url) - total);
  return order;
}

/** FNV-1a, with a last mixing so that similar texts land far apart. */
function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function cookieOf(request) {
  const pairs = (request.headers.get("Cookie") ?? "").split(";").map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${COOKIE}=`))?.slice(COOKIE.length + 1) ?? null;
}

/** The response with a cookie that leads to its origin again, unless the client has it. */
function remembered(request, url, { response, origin }) {
  // The answer to a WebSocket cannot be changed.
  if (origin === null || response.webSocket || cookieOf(request) === origin.id) return response;
  const marked = new Response(response.body, response);
  const secure = url.protocol === "https:" ? "; Secure" : "";
  marked.headers.append("Set-Cookie", `${COOKIE}=${origin.id}; Path=/; HttpOnly; SameSite=Lax${secure}`);
  return marked;
}

function health(settings) {
  if (settings.origins.length === 0) return unavailable("no origin is available");
  return Response.json({ status: "ok" }, { headers: { "Cache-Control": "no-store" } });
}

function unavailable(message) {
  return problem(503, message, { "Retry-After": String(RETRY_AFTER_S) });
}

function problem(status, error, headers = {}) {
  return Response.json({ error }, { status, headers: { "Cache-Control": "no-store", ...headers } });
}

function settingsOf(env) {
  if (current.env === env) return current.settings;
  const settings = {
    origins: originsOf(env.ORIGINS ?? ""),
    strategy: (env.STRATEGY ?? "").trim().toLowerCase(),
    retries: Math.min(numberOf(env.RETRIES, DEFAULT_RETRIES), MOST_RETRIES),
    timeoutMs: numberOf(env.ORIGIN_TIMEOUT_MS, DEFAULT_TIMEOUT_MS),
    failStatuses: statusesOf(env.FAIL_STATUSES ?? DEFAULT_FAIL_STATUSES),
    sticky: (env.STICKY ?? "").trim().toLowerCase(),
    healthPath: env.HEALTH_PATH || "/__lb/health",
    probePath: env.PROBE_PATH || "/",
  };
  // Isolates start together: without a random first turn all of them would begin with the same origin.
  const most = settings.origins.reduce((sum, origin) => sum + origin.weight, 0);
  for (let n = Math.floor(Math.random() * Math.min(most, 1000)); n > 0; n--) inTurn(settings.origins);
  current = { env, settings };
  return settings;
}

function numberOf(text, otherwise) {
  return /^\d{1,6}$/.test((text ?? "").trim()) ? Number(text) : otherwise;
}

function statusesOf(text) {
  const statuses = new Set();
  for (const [, from, to] of text.matchAll(/(\d{3})(?:\s*-\s*(\d{3}))?/g)) {
    for (let status = Number(from); status <= Number(to ?? from); status++) statuses.add(status);
  }
  return statuses;
}

function originsOf(text) {
  const origins = new Map();
  for (const { url, weight, priority } of text.trim().startsWith("[") ? fromJson(text) : fromList(text)) {
    // What is no URL is left out: one wrong entry must not take the others with it.
    if (!URL.canParse(url)) continue;
    const { origin } = new URL(url);
    origins.set(origin, { url: origin, weight: amount(weight, 1), priority: amount(priority, 0), id: idOf(origin) });
  }
  return [...origins.values()];
}

function fromList(text) {
  return text.split(/[\s,]+/).filter(Boolean).map((entry) => {
    const [url, ...parameters] = entry.split(";");
    return { url, ...Object.fromEntries(parameters.map((parameter) => parameter.split("="))) };
  });
}

function fromJson(text) {
  try {
    return JSON.parse(text).map((entry) => (typeof entry === "string" ? { url: entry } : { ...entry }));
  } catch {
    return [];
  }
}

function amount(value, otherwise) {
  const number = Number(value ?? otherwise);
  return Number.isFinite(number) && number >= 0 ? number : otherwise;
}

function idOf(origin) {
  return hash(origin).toString(16).padStart(8, "0");
}
