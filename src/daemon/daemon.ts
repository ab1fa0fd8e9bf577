// The daemon: open nodes, what serves them, who gives it commands; and how all of it ends.

import { Interpreter } from '../hmp/interpreter.ts';
import type { HmpSessionOptions } from '../hmp/session.ts';
import type { Host } from '../io/host.ts';
import { noCredentials, withNbd } from '../nbd/node-host.ts';
import type { TlsCredentials } from '../nbd/tls.ts';
import type { OnMistake } from '../nbd/transmission.ts';
import { Mutex } from '../qcow2/mutex.ts';
import { errorReply } from '../qmp/errors.ts';
import type { Greeting, SessionOptions } from '../qmp/session.ts';
import { Chardev, type ChardevSettings } from './chardev.ts';
import { commandTable } from './commands.ts';
import { DaemonError } from './daemon-error.ts';
import type { Described, DescribeImage } from './describe.ts';
import { Events } from './events.ts';
import { Exports } from './exports.ts';
import { Graph } from './graph.ts';
import { hmpCommands } from './hmp-commands.ts';
import { Jobs } from './jobs.ts';
import { serveHmp, serveQmp } from './monitors.ts';

export interface DaemonOptions {
  readonly host: Host;
  /** How far what images name is followed: makes a host that opens that alone. */
  readonly trusting: (host: Host) => Host;
  readonly version: Greeting;
  readonly describeImage: DescribeImage;
  /** Commands by their older names, too: `block_job_cancel`. */
  readonly olderNames: boolean;
  /** Jobs go on where QEMU's do and ours would not. */
  readonly asQemu: boolean;
  /** Hears what no client asked about. */
  readonly warn: (message: string) => void;
  /** An image as people read of it. */
  readonly imageText: (image: Described) => string;
}

export interface MonitorSettings {
  readonly chardev: string;
  readonly mode: 'control' | 'readline';
  readonly pretty: boolean;
}

export class Daemon {
  readonly options: DaemonOptions;
  /** Passphrases by name; grows with each object. */
  readonly secrets = new Map<string, Uint8Array>();
  readonly credentials = new Map<string, TlsCredentials>();
  readonly events = new Events();
  readonly graph: Graph;
  readonly exports: Exports;
  readonly jobs: Jobs;
  readonly asQemu: boolean;
  readonly warn: (message: string) => void;
  readonly interpreter: Interpreter;
  readonly #chardevs = new Map<string, Chardev>();
  readonly #turns = new Mutex();
  /** From then on clients of all kinds are served. */
  readonly #ready: Promise<void>;
  #becomeReady: () => void = () => undefined;
  readonly #stopAsked: Promise<void>;
  #askToStop: () => void = () => undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: DaemonOptions) {
    this.options = options;
    this.asQemu = options.asQemu;
    this.warn = options.warn;
    this.#ready = new Promise((resolve) => {
      this.#becomeReady = resolve;
    });
    const host = withNbd(options.host, async (id) => this.#credentialsOf(id));
    this.graph = new Graph({ host: options.trusting(host), secrets: this.secrets });
    this.jobs = new Jobs(options.host, (name, data) => this.events.emit(name, data), options.warn);
    this.exports = new Exports({
      graph: this.graph,
      events: this.events,
      credentialsOf: (id) => this.#credentialsOf(id),
      ready: this.#ready,
      onMistake: oncePerKind((words) => options.warn(`NBD server: ${words}`)),
    });
    this.interpreter = new Interpreter({
      commands: hmpCommands(this),
      errorText: (error) => `Error: ${errorReply(error).desc}\n`,
    });
    this.#stopAsked = new Promise((resolve) => {
      this.#askToStop = resolve;
    });
  }

  #credentialsOf(id: string): TlsCredentials {
    const found = this.credentials.get(id);
    if (found !== undefined) return found;
    if (!this.secrets.has(id)) throw noCredentials(id);
    throw new DaemonError(`Object with id '${id}' is not TLS credentials`);
  }

  async addChardev(id: string, settings: ChardevSettings): Promise<void> {
    if (this.#chardevs.has(id)) {
      throw new DaemonError(
        `attempt to add duplicate property '${id}' to object (type 'container')`,
      );
    }
    this.#chardevs.set(id, await Chardev.open(settings));
  }

  addMonitor({ chardev: id, mode, pretty }: MonitorSettings): void {
    const chardev = this.#chardevs.get(id);
    if (chardev === undefined) throw new DaemonError(`chardev "${id}" not found`);
    if (this.asQemu && mode === 'readline') throw new DaemonError('Only QMP is supported');
    if (chardev.taken) throw new DaemonError(`Device '${id}' is in use`);
    const inTurn = <T>(run: () => Promise<T>) => this.#turns.run(run);
    chardev.take();
    void this.#ready.then(() => {
      if (mode === 'readline') serveHmp(chardev, this.#hmp(inTurn));
      else serveQmp(chardev, this.#qmp(inTurn, pretty), this.events);
    });
  }

  #hmp(inTurn: HmpSessionOptions['inTurn']): HmpSessionOptions {
    const { major, minor, micro } = this.options.version.qemu;
    const ends = () => this.#stopped !== undefined;
    return { version: `${major}.${minor}.${micro}`, interpreter: this.interpreter, inTurn, ends };
  }

  #qmp(inTurn: SessionOptions['inTurn'], pretty: boolean): SessionOptions {
    return { version: this.options.version, commands: commandTable(this), inTurn, pretty };
  }

  /** A command or a signal asks it to end; resolves when all but its monitors has. */
  async quit(reason: 'host-qmp-quit' | 'host-signal'): Promise<void> {
    if (this.#stopped === undefined && this.graph.nodes.some(({ device }) => device !== '')) {
      this.events.emit('SHUTDOWN', { guest: false, reason });
    }
    this.#stopped ??= this.#stop();
    // Who runs us learns of it in any case, and of what went wrong from `run`.
    await this.#stopped.catch(() => undefined);
    this.#askToStop();
  }

  /** Serves, until it was asked to stop; then all is written, and everybody gone. */
  async run(): Promise<void> {
    this.#becomeReady();
    await this.#stopAsked;
    // The reply to the command that asked for it goes out.
    await this.#turns.run(async () => undefined);
    for (const chardev of this.#chardevs.values()) await chardev.close();
    await this.#stopped;
  }

  /** A signal asks it to end: what is being done for a command comes first. */
  stop(): Promise<void> {
    return this.#turns.run(() => this.quit('host-signal'));
  }

  /** Each step is made, whatever came of the one before; the first error is thrown. */
  async #stop(): Promise<void> {
    const { exports, jobs, graph } = this;
    const errors: unknown[] = [];
    const note = (error: unknown) => errors.push(error);
    // Requests end before exports do, and once more before jobs do; those of jobs rest meanwhile.
    if (!exports.isEmpty) jobs.drain()();
    await exports.close(exports.isEmpty ? () => undefined : jobs.drain()).catch(note);
    jobs.drain()();
    await jobs.endAll().catch(note);
    await graph.close().catch(note);
    if (errors.length > 0) throw errors[0];
  }
}

const MOST_MISTAKES = 100;

/** Tells of mistakes of ours, each kind of them once; it is what there is to report of it. */
function oncePerKind(tell: (words: string) => void): OnMistake {
  const told = new Set<string>();
  return (error) => {
    const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
    // Should each be of its own kind, a few will do.
    if (told.has(words) || told.size >= MOST_MISTAKES) return;
    told.add(words);
    tell(`internal error: ${words}`);
  };
}
