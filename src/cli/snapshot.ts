// qimg-ts snapshot: lists, takes, goes back to and deletes the internal snapshots of an image.

import { constants } from 'node:os';
import { shellWord } from '../chain/advice.ts';
import type { Chain } from '../chain/chain.ts';
import { openChain } from '../chain/open.ts';
import type { Secrets } from '../chain/secrets.ts';
import { ImageError, strerror } from '../errors.ts';
import type { Host } from '../io/host.ts';
import { nodeHost } from '../nbd/node-host.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../qcow2/snapshot-changes.ts';
import { describeSnapshot } from './describe-image.ts';
import { snapshotTable } from './info-text.ts';
import { checkNotEmpty, closingAfter } from './open-named.ts';
import {
  collect,
  type NamedImage,
  namedImage,
  newCommand,
  parseVerb,
  targetOf,
} from './options.ts';
import { type ProgramContext, TwoLineError } from './program.ts';
import { warnIfTakenForRaw } from './raw-warning.ts';
import { objects, readSecrets } from './secrets.ts';
import { type TrustFlags, trusted, withTrust } from './trust.ts';
import { visibleIn } from './visible.ts';

interface Flags extends TrustFlags {
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
  readonly format?: string;
  readonly forceShare?: boolean;
  readonly quiet?: boolean;
  readonly list?: boolean;
  readonly create?: readonly string[];
  readonly apply?: readonly string[];
  readonly delete?: readonly string[];
}

const ACTIONS = ['list', 'apply', 'create', 'delete'] as const;
type Action = (typeof ACTIONS)[number];

export async function runSnapshot(
  argv: readonly string[],
  program: ProgramContext,
): Promise<number> {
  const command = newCommand(program, 'snapshot', 'FILENAME')
    .description('List, take, go back to or delete the internal snapshots of an image.')
    .option('-l, --list', 'list them (the default)')
    .option('-c, --create <name>', 'keep what the disk shows now under a name', collect)
    .option('-a, --apply <snapshot>', 'make the disk show what it showed then', collect)
    .option('-d, --delete <snapshot>', 'delete the snapshot', collect)
    .option('-q, --quiet', 'print errors only')
    .option('-U, --force-share', 'list although another process writes to the image')
    .option('--object <object>', 'define an object (secret, tls-creds-x509)', objects)
    .option('--image-opts', 'FILENAME is a list of options');
  // QEMU always looks at the content.
  if (!program.asQemu) {
    command.option('-f, --format <fmt>', 'format of the image; without it, probed');
  }
  const { flags, operands, options } = parseVerb<Flags>(withTrust(command), argv, program);
  const given = options.map(({ long }) => long);
  const actions = given.filter((name): name is Action => ACTIONS.some((each) => each === name));
  if (actions.length > 1) return program.usageError("Cannot mix '-l', '-a', '-c', '-d'");
  const [operand] = operands;
  if (operand === undefined || operands.length > 1) {
    return program.usageError('Expecting one image file name');
  }
  // QEMU opens the image for writing when nothing is asked of it, and leaves it at that.
  const action = actions[0] ?? (program.asQemu ? undefined : 'list');
  const named = namedImage(operand, flags, program);
  const secrets = await readSecrets(flags.object);
  const host = trusted(nodeHost, flags, program);
  const chain = await open(named, host, action !== 'list', flags, secrets);
  await closingAfter(chain, async () => {
    if (action !== 'list') warnIfTakenForRaw(chain.at(0), program);
    // QEMU opens it once more to look for snapshots below.
    if (action === 'apply' && program.asQemu) warnIfTakenForRaw(chain.at(0), program);
    await carryOut(action, flags, chain, program);
  });
  return 0;
}

async function open(
  named: NamedImage,
  host: Host,
  writable: boolean,
  flags: Flags,
  secrets: Secrets,
): Promise<Chain> {
  checkNotEmpty(named);
  const { format, label } = named;
  const forceShare = flags.forceShare === true;
  if (writable && forceShare) {
    throw new ImageError(
      'invalid',
      `Could not open '${label}': force-share=on can only be used with read-only images`,
    );
  }
  return await openChain(targetOf(named), {
    host,
    writable,
    forceShare,
    label,
    secrets,
    ...(format !== undefined && { format }),
  });
}

async function carryOut(
  action: Action | undefined,
  flags: Flags,
  { top }: Chain,
  program: ProgramContext,
): Promise<void> {
  const image = top instanceof Qcow2Image ? top : undefined;
  if (action === undefined) await image?.prepareToWrite({ dataUnchanged: true });
  else if (action === 'list') await list(image, program);
  else {
    const name = flags[action]?.[0] ?? '';
    await CHANGES[action](image, name).catch((error: unknown) => {
      throw error instanceof ImageError ? inWords(action, name, error, top.filename) : error;
    });
  }
}

async function list(image: Qcow2Image | undefined, program: ProgramContext): Promise<void> {
  const snapshots = (await image?.snapshots()) ?? [];
  if (snapshots.length === 0) return;
  const described = snapshots.map(describeSnapshot);
  const shown = program.asQemu ? described : described.map(visibleIn);
  program.out(`${snapshotTable(shown).join('\n')}\n`);
}

type Change = (image: Qcow2Image | undefined, name: string) => Promise<void>;

const CHANGES: Readonly<Record<Exclude<Action, 'list'>, Change>> = {
  async create(image, name) {
    if (image === undefined) throw noSnapshots();
    const now = Date.now();
    const seconds = Math.floor(now / 1000);
    await createSnapshot(image, { name, seconds, nanoseconds: (now % 1000) * 1_000_000 });
  },
  async apply(image, name) {
    if (image === undefined) throw noSnapshots();
    await applySnapshot(image, name);
  },
  async delete(image, name) {
    if (image === undefined) throw new ImageError('not-found', 'no snapshots', { errno: 'ENOENT' });
    await deleteSnapshot(image, name);
  },
};

function noSnapshots(): ImageError {
  return new ImageError('unsupported', 'Block driver does not support snapshots', {
    errno: 'ENOTSUP',
  });
}

/** Said by QEMU as it is; everything else by its number. */
const OWN_WORDS = /^(Snapshot L1 table |Can't resize a v2 |The new size must )/;
const WHOLE = /^(Block driver does not support|Device has active dirty bitmaps)/;

/** QEMU's words; what exactly was found follows as a hint. */
function inWords(
  action: Exclude<Action, 'list'>,
  name: string,
  error: ImageError,
  filename: string,
): ImageError {
  const { code, errno = 'EIO', message } = error;
  const isMissing = code === 'not-found';
  const hint = isMissing ? `qimg-ts snapshot -l ${shellWord(filename)} lists them.` : error.hint;
  const head = `Could not ${action} snapshot '${name}'`;
  const own = OWN_WORDS.test(message);
  const because: Record<Exclude<Action, 'list'>, () => string> = {
    create: () => `${-(numberOf(errno) ?? 5)} (${strerror(errno)})`,
    apply: () => (WHOLE.test(message) ? message : `Failed to load snapshot: ${strerror(errno)}`),
    delete: () => {
      if (isMissing) return 'snapshot not found';
      return own ? message : `Failed to remove snapshot from snapshot list: ${strerror(errno)}`;
    },
  };
  const detail = WHOLE.test(message) || own || isMissing ? [] : [message];
  const hints = [...detail, ...(hint === undefined ? [] : [hint])];
  const words = new ImageError(code, `${head}: ${because[action]()}`, {
    errno,
    ...(hints.length > 0 && { hint: hints.join('\n') }),
  });
  return action === 'apply' && own ? new TwoLineError(message, words) : words;
}

function numberOf(errno: string): number | undefined {
  return (constants.errno as Readonly<Record<string, number>>)[errno];
}
