import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

/**
 * The way to one host, longer: hands on what comes to a port of it, both ways, after so many milliseconds. Not every kernel
 * has tc-netem(8). What it does not lengthen is TCP's own round trip: windows of HTTP/2 feel the delay, TCP's do not.
 * Arguments: host, port, milliseconds. Tells its own port to whoever started it.
 */
const [host, port, millis] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])];
/** On its way at most, in one direction of one connection: far more than a slow link times its delay. */
const MOST_BYTES = 4 << 20;

const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ host, port, noDelay: true });
  handOn(near, far);
  handOn(far, near);
});

function handOn(from: Socket, to: Socket): void {
  let underWay = 0;
  from.on("data", (bytes) => {
    underWay += bytes.length;
    if (underWay > MOST_BYTES) from.pause();
    setTimeout(() => {
      underWay -= bytes.length;
      if (!to.destroyed) to.write(bytes);
      from.resume();
    }, millis);
  });
  from.on("error", () => {});
  from.on("close", () => setTimeout(() => to.destroy(), millis));
}

server.listen(0, host, () => process.send!((server.address() as AddressInfo).port));
process.on("disconnect", () => process.exit(0));
