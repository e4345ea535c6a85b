// Keeps all files for use without a network, and sets the headers that let WebAssembly have threads.
const PREFIX = `depthaware ${self.registration.scope} `, CACHE = PREFIX + "@VERSION@";
const PAGE = ["./", "app.js", "engine.js", "crop.js", "faces.js", "motion.js", "style.css", "manifest.webmanifest",
  "icon.svg", "icon-192.png", "portrait.png"]; // the rest is kept when it is first used

self.addEventListener("install", (event) => {
  self.skipWaiting();
  const requests = PAGE.map((url) => new Request(url, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const key of await caches.keys()) if (key.startsWith(PREFIX) && key !== CACHE) await caches.delete(key);
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event, own = new URL(request.url).origin === self.location.origin;
  if (own && request.method === "GET") event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  let response = await cache.match(request, { ignoreSearch: true });
  if (!response) {
    response = await fetch(request, { cache: "no-cache" });
    if (response.status === 200) await cache.put(request, response.clone()).catch(() => {}); // no room left
  }
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
