// A daemon on this machine: how its images are described, the signals that stop it, what it says.

import { Daemon } from '../daemon/daemon.ts';
import { DaemonError } from '../daemon/daemon-error.ts';
import { ImageError } from '../errors.ts';
import { nodeHost } from '../io/node-host.ts';
import { QmpError } from '../qmp/errors.ts';
import { type Description, describeImage } from './describe-image.ts';
import { infoText } from './info-text.ts';
import { isHintOfQemu, type ProgramContext } from './program.ts';
import { type Trusting, trusted } from './trust.ts';
import { QEMU_VERSION, VERSION } from './version.ts';

export function newDaemon(program: ProgramContext, { trust, allowProtocols }: Trusting): Daemon {
  const { asQemu } = program;
  const trusting = { ...(trust && { trust }), ...(allowProtocols && { allowProtocols }) };
  const [major = 0, minor = 0, micro = 0] = QEMU_VERSION.split('.').map(Number);
  return new Daemon({
    host: nodeHost,
    trusting: (host) => trusted(host, trusting, program),
    olderNames: !asQemu,
    asQemu,
    warn: (message) => process.stderr.write(`qimg-ts: warning: ${message}\n`),
    version: { qemu: { major, minor, micro }, package: `qimg-ts ${VERSION}` },
    describeImage: (node) => {
      const { layer, filename: name } = node;
      return describeImage({ layer, name, filename: node.parts.hostFile ?? name });
    },
    imageText: (image) => infoText(image as Description),
  });
}

/** Until a command or a signal stops it. Rejects with what could not be written. */
export async function runUntilStopped(daemon: Daemon): Promise<void> {
  const stop = (): void => void daemon.stop();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    await daemon.run();
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}

/** The words of a refusal; anything else is a mistake of ours and is thrown on. */
export function refusal(error: unknown, { asQemu }: ProgramContext): string {
  const told = [ImageError, DaemonError, QmpError].some((kind) => error instanceof kind);
  if (!told) throw error;
  const { message } = error as Error;
  const hint = error instanceof ImageError ? error.hint : undefined;
  const shown = hint !== undefined && (!asQemu || isHintOfQemu(hint));
  return shown ? `${message}\n${hint}` : message;
}
