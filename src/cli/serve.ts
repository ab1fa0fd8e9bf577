// qimg-ts serve: one disk over NBD, with monitors if they are wanted, in one line.

import { OptionDict } from '../chain/option-dict.ts';
import type { Daemon } from '../daemon/daemon.ts';
import { newCommand, parseVerb } from './options.ts';
import type { ProgramContext } from './program.ts';
import { objects, readObjects } from './secrets.ts';
import { newDaemon, refusal, runUntilStopped } from './start-daemon.ts';
import { type TrustFlags, withTrust } from './trust.ts';

interface Flags extends TrustFlags {
  readonly format?: string;
  readonly socket?: string;
  readonly qmp?: string;
  readonly hmp?: string;
  readonly id: string;
  readonly readOnly?: boolean;
}

export async function runServe(argv: readonly string[], program: ProgramContext): Promise<number> {
  const command = newCommand(program, 'serve', 'FILENAME')
    .description('Serve a disk over NBD. Its layers can be merged meanwhile, over QMP.')
    .option('-f, --format <fmt>', 'format of the image; without it, probed')
    .option('--socket <path>', 'socket for NBD clients')
    .option('--qmp <path>', 'socket for commands of programs')
    .option('--hmp <path>', 'socket for commands of people')
    .option('--id <name>', 'name of the device, for commands', 'disk')
    .option('-r, --read-only', 'nobody writes')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects);
  const { flags, operands } = parseVerb<Flags>(withTrust(command), argv, program);
  const [filename] = operands;
  if (filename === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  const { socket } = flags;
  if (socket === undefined) return program.usageError('--socket is missing: where to serve it');
  const { secrets, credentials } = await readObjects(flags.object);
  const daemon = newDaemon(program, flags);
  for (const [id, secret] of secrets) daemon.secrets.set(id, secret);
  for (const [id, each] of credentials) daemon.credentials.set(id, each);
  try {
    await start(daemon, filename, socket, flags);
  } catch (error) {
    program.err(`${program.name}: ${refusal(error, program)}\n`);
    await daemon.stop();
    return 1;
  }
  program.out(howToConnect(filename, socket, flags));
  await runUntilStopped(daemon);
  return 0;
}

async function start(
  daemon: Daemon,
  filename: string,
  socket: string,
  { format, qmp, hmp, id, readOnly = false }: Flags,
): Promise<void> {
  const options = new OptionDict([
    ['read-only', readOnly],
    ['discard', 'unmap'],
    ...(format === undefined ? [] : ([['driver', format]] as const)),
  ]);
  await daemon.graph.addDevice(id, { filename, options });
  await daemon.exports.startServer({ address: { type: 'unix', path: socket } });
  await daemon.exports.addFor(id, { id, name: '', writable: !readOnly, allocationDepth: true });
  const monitors = { qmp: [qmp, 'control'], hmp: [hmp, 'readline'] } as const;
  for (const [chardev, [path, mode]] of Object.entries(monitors)) {
    if (path === undefined) continue;
    const address = { type: 'unix', path } as const;
    await daemon.addChardev(chardev, { kind: 'socket', address, server: true, wait: false });
    daemon.addMonitor({ chardev, mode, pretty: false });
  }
}

function howToConnect(filename: string, socket: string, { qmp, hmp, id }: Flags): string {
  const uri = `nbd+unix:///?socket=${encodeURI(socket)}`;
  const lines = [
    `Serving ${filename} as device '${id}'; stop with Ctrl-C. Connect with:`,
    `  qemu-system-x86_64 -drive file=${uri},format=raw,if=virtio`,
    `  qemu-io -f raw '${uri}'`,
    `  nbdinfo '${uri}'`,
  ];
  if (qmp !== undefined) lines.push(`QMP: socat - UNIX-CONNECT:${qmp}`);
  if (hmp !== undefined) lines.push(`Monitor: socat -,raw,echo=0 UNIX-CONNECT:${hmp}`);
  return `${lines.join('\n')}\n`;
}
