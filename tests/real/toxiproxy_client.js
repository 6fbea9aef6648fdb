// Drives the API with toxiproxy-node-client, as its users do, and prints what it has seen as JSON.
// Arguments: where the client is installed, the API's URL, the server's address.
const [, , modules, url, upstream] = process.argv;
const net = require("net");
const { Toxiproxy } = require(`${modules}/toxiproxy-node-client`);

const talk = (listen, text) =>
  new Promise((resolve) => {
    const [host, port] = listen.split(":");
    const begun = process.hrtime.bigint();
    let got = "";
    const done = (error) =>
      resolve({ got, error, seconds: Number(process.hrtime.bigint() - begun) / 1e9 });
    const socket = net.connect(Number(port), host, () => socket.end(text));
    socket.on("data", (data) => (got += data));
    socket.on("error", (error) => done(error.code));
    socket.on("end", () => done(null));
  });

const failure = (promise) => promise.then(() => null, (error) => `${error.constructor.name}: ${error.message}`);

const main = async () => {
  const toxiproxy = new Toxiproxy(url);
  const seen = { version: JSON.parse(await toxiproxy.getVersion()).version };

  const proxy = await toxiproxy.createProxy({ name: "web", listen: "127.0.0.1:0", upstream });
  seen.created = proxy.toJson();
  seen.plain = await talk(proxy.listen, "hi\n");

  const latency = await proxy.addToxic({
    name: "slow",
    type: "latency",
    stream: "downstream",
    toxicity: 1,
    attributes: { latency: 80, jitter: 0 },
  });
  seen.toxic = latency.toJson();
  seen.slow = await talk(proxy.listen, "hi\n");
  seen.updated = (await latency.update({ attributes: { latency: 1, jitter: 0 } })).toJson();
  seen.fetched = (await proxy.getToxic("slow")).toJson();
  await latency.remove();
  seen.gone = await failure(proxy.getToxic("slow"));

  const attributes = {
    bandwidth: { rate: 1000 },
    slow_close: { delay: 1 },
    timeout: { timeout: 1 },
    reset_peer: { timeout: 0 },
    slicer: { average_size: 2, size_variation: 1, delay: 10 },
    limit_data: { bytes: 1 },
  };
  seen.types = {};
  for (const [type, values] of Object.entries(attributes)) {
    const toxic = await proxy.addToxic({ name: type, type, stream: "downstream", toxicity: 1, attributes: values });
    seen.types[type] = { shown: toxic.attributes, ...(await talk(proxy.listen, "hi\n")) };
    await toxic.remove();
  }

  seen.disabled = (await proxy.update({ ...proxy.toJson(), enabled: false })).toJson();
  seen.refused = (await talk(proxy.listen, "hi\n")).error;
  await proxy.addToxic({ name: "x", type: "latency", stream: "upstream", toxicity: 0.5, attributes: { latency: 1, jitter: 0 } });
  await toxiproxy.reset();
  seen.reset = (await toxiproxy.get("web")).toJson();
  seen.again = await talk(proxy.listen, "hi\n");

  const populated = await toxiproxy.populate([
    { name: "web", listen: proxy.listen, upstream },
    { name: "other", listen: "127.0.0.1:0", upstream },
  ]);
  seen.populated = Object.keys(populated);
  seen.all = Object.keys(await toxiproxy.getAll());

  seen.errors = {
    missing: await failure(toxiproxy.get("nobody")),
    twice: await failure(toxiproxy.createProxy({ name: "web", listen: "127.0.0.1:0", upstream })),
    type: await failure(proxy.addToxic({ name: "n", type: "nothing", stream: "upstream", toxicity: 1, attributes: {} })),
  };
  await proxy.remove();
  seen.left = Object.keys(await toxiproxy.getAll());
  console.log(JSON.stringify(seen));
};

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
