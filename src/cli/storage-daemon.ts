// qimg-ts storage-daemon: nodes, exports and monitors by options, in their order, as
// qemu-storage-daemon has them.

import { OptionDict } from '../chain/option-dict.ts';
import { blockdevOptions } from '../daemon/blockdev-schema.ts';
import type { Daemon } from '../daemon/daemon.ts';
import {
  exportOptions,
  exportSettings,
  serverOptions,
  serverSettings,
} from '../daemon/export-commands.ts';
import type { JsonValue } from '../json/parser.ts';
import { bool, object, oneOf, optional, text } from '../qmp/schema.ts';
import { parseChardev } from './chardev-options.ts';
import type { Command } from './command.ts';
import { daemonize, isDaemon, tellReady } from './daemonize.ts';
import { parseDrive } from './drive-options.ts';
import { readOptions } from './keyval.ts';
import { collect, newCommand, parseVerb } from './options.ts';
import { PidFile } from './pid-file.ts';
import { type ProgramContext, STORAGE_DAEMON } from './program.ts';
import { readObjects } from './secrets.ts';
import { newDaemon, refusal, runUntilStopped } from './start-daemon.ts';
import { usageText, versionText } from './storage-daemon-usage.ts';
import { type Trusting, withTrust } from './trust.ts';

interface Flags extends Trusting {
  readonly daemonize?: boolean;
  readonly pidfile?: string;
  readonly version?: boolean;
}

export async function runStorageDaemon(
  argv: readonly string[],
  program: ProgramContext,
): Promise<number> {
  const asked = answered(argv, program);
  if (asked !== undefined) {
    program.out(asked);
    return 0;
  }
  const { flags, operands, options } = parseVerb<Flags>(definition(program), argv, program);
  if (flags.version) {
    program.out(versionText(program));
    return 0;
  }
  const [extra] = operands;
  if (extra !== undefined) {
    program.err(`${program.name}: ${extra}: Unexpected argument\n`);
    return 1;
  }
  if (flags.daemonize && !isDaemon(program)) return await daemonize(argv, program);
  const daemon = newDaemon(program, flags);
  let pidFile: PidFile | undefined;
  try {
    const started = await startAll(daemon, options, program);
    if (started) pidFile = writePid(flags, program);
    if (pidFile === undefined) {
      await daemon.stop();
      return 1;
    }
    tellReady(program);
    await runUntilStopped(daemon);
    return 0;
  } finally {
    pidFile?.remove();
  }
}

/** Under QEMU's name these two come before everything else. */
function answered(argv: readonly string[], program: ProgramContext): string | undefined {
  if (program.name !== STORAGE_DAEMON) return undefined;
  for (const word of argv) {
    if (word === '--help' || word === '-h') return usageText();
    if (word === '--version' || word === '-V') return versionText(program);
  }
  return undefined;
}

function definition(program: ProgramContext): Command {
  const command = newCommand(program, 'storage-daemon', '')
    .description(
      'Open disks, serve them over NBD, and take commands over QMP: merge layers while they are used.',
    )
    .option('--blockdev <options>', 'open a block node (driver=..., dotted keys or JSON)', collect)
    .option('--drive <options>', 'open a whole chain as a device (file=, format=, id=)', collect)
    .option('--chardev <options>', 'a way in for a monitor (socket or stdio)', collect)
    .option('--monitor <options>', 'take commands on a chardev (mode=control or readline)', collect)
    .option('--nbd-server <options>', 'where to serve exports (addr.type=unix or inet)', collect)
    .option('--export <options>', 'serve a node (type=nbd,id=,node-name=)', collect)
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', collect)
    .option('--pidfile <path>', 'write the process number to a file once all has started')
    .option('--daemonize', 'go to the background once all has started')
    .option('-T, --trace <pattern>', 'taken for compatibility; there is no tracing')
    .option('-V, --version', 'print the version');
  return program.asQemu ? command : withTrust(command);
}

/** False where something could not be started; it is told then. */
async function startAll(
  daemon: Daemon,
  options: readonly { readonly long: string; readonly value: string | undefined }[],
  program: ProgramContext,
): Promise<boolean> {
  const starting = new Starting(daemon, program);
  for (const { long, value = '' } of options) {
    const start = STARTERS[long];
    if (start === undefined) continue;
    try {
      await start(starting, value);
    } catch (error) {
      program.err(`${program.name}: --${long} ${value}: ${refusal(error, program)}\n`);
      return false;
    }
  }
  return true;
}

function writePid({ pidfile }: Flags, program: ProgramContext): PidFile | undefined {
  try {
    return PidFile.write(pidfile);
  } catch (error) {
    program.err(`${program.name}: cannot create PID file: ${refusal(error, program)}\n`);
    return undefined;
  }
}

const monitorOptions = object({
  id: optional(text),
  mode: optional(oneOf('readline', 'control')),
  pretty: optional(bool),
  chardev: text,
});
class Starting {
  readonly #daemon: Daemon;
  readonly #program: ProgramContext;
  readonly #objects: string[] = [];

  constructor(daemon: Daemon, program: ProgramContext) {
    this.#daemon = daemon;
    this.#program = program;
  }

  async blockdev(value: string): Promise<void> {
    const given = readOptions(blockdevOptions, value, 'driver');
    const options = OptionDict.fromObject(given as { readonly [key: string]: JsonValue });
    await this.#daemon.graph.add(options);
  }

  async drive(value: string): Promise<void> {
    const { id, described } = parseDrive(value);
    await this.#daemon.graph.addDevice(id, described);
  }

  async chardev(value: string): Promise<void> {
    const { id, settings, warnings } = parseChardev(value);
    const tell = (text: string) =>
      this.#program.err(`${this.#program.name}: --chardev ${value}: ${text}\n`);
    for (const warning of warnings) tell(warning);
    if (settings.kind === 'socket' && settings.server && settings.wait) {
      const { address } = settings;
      const where =
        address.type === 'unix' ? `unix:${address.path}` : `tcp:${address.host}:${address.port}`;
      tell(`info: QEMU waiting for connection on: disconnected:${where},server=on`);
    }
    await this.#daemon.addChardev(id, settings);
  }

  monitor(value: string): void {
    const {
      chardev,
      mode = 'control',
      pretty = false,
    } = readOptions(monitorOptions, value, 'chardev');
    this.#daemon.addMonitor({ chardev, mode, pretty });
  }

  async nbdServer(value: string): Promise<void> {
    await this.#daemon.exports.startServer(serverSettings(readOptions(serverOptions, value)));
  }

  async export(value: string): Promise<void> {
    // QEMU's own help calls them so.
    const { asQemu } = this.#program;
    const text = asQemu ? value : value.replace(/(^|,)bitmap\.(?=\d+=)/g, '$1bitmaps.');
    await this.#daemon.exports.add(exportSettings(readOptions(exportOptions, text, 'type')));
  }

  async object(value: string): Promise<void> {
    this.#objects.push(value);
    const { secrets, credentials } = await readObjects(this.#objects);
    for (const [id, secret] of secrets) this.#daemon.secrets.set(id, secret);
    for (const [id, each] of credentials) this.#daemon.credentials.set(id, each);
  }
}

type Starter = (starting: Starting, value: string) => Promise<void> | void;

const STARTERS: Readonly<Record<string, Starter>> = {
  blockdev: (starting, value) => starting.blockdev(value),
  drive: (starting, value) => starting.drive(value),
  chardev: (starting, value) => starting.chardev(value),
  monitor: (starting, value) => starting.monitor(value),
  'nbd-server': (starting, value) => starting.nbdServer(value),
  export: (starting, value) => starting.export(value),
  object: (starting, value) => starting.object(value),
};
