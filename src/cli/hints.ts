// What to do next, where an error does not say so itself. Not for the drop-in: QEMU prints no such
// lines.

import { shellWord } from '../chain/advice.ts';
import { type ImageError, type LockHolder, UNTOUCHED, withState } from '../errors.ts';
import { closest } from './suggest.ts';

type Hint = string | ((match: RegExpExecArray) => string | undefined);

const FORMATS = ['qcow2', 'raw'];

function otherFormat(match: RegExpExecArray): string {
  const meant = closest(match[1] ?? '', FORMATS);
  return meant === undefined ? 'Formats are: qcow2, raw.' : `Did you mean '${meant}'?`;
}

/** The first that fits the message. */
const BY_MESSAGE: readonly (readonly [RegExp, Hint])[] = [
  [
    /Parameter 'encrypt\.key-secret' is required for cipher/,
    'It is encrypted. Give its passphrase: --object secret,id=KEY,file=FILE --image-opts ' +
      'driver=qcow2,file.filename=NAME,encrypt.key-secret=KEY (a backing file: ' +
      'backing.encrypt.key-secret=KEY).',
  ],
  [
    /^Could not open '[^']*': Invalid password, cannot unlock any keyslot/,
    'No key slot takes this passphrase; a file with it must not end in a new line.',
  ],
  [
    /^Could not open '(.*?)': Could not open backing file: /s,
    ([, name]) =>
      `qimg-ts chain ${shellWord(name ?? '')} shows which layer that is, and what to do.`,
  ],
  [
    /^Image does not have a backing file/,
    'There is nothing below it that it could be merged into.',
  ],
  [
    /^Did not find '.*' in the backing chain of '(.*)'/,
    ([, name]) => `qimg-ts chain ${shellWord(name ?? '')} shows the names of its layers.`,
  ],
  [/Unknown driver '(.*)'/, otherFormat],
  [/Unknown file format '(.*)'/, otherFormat],
  [
    /^Invalid (?:source )?cache option: /,
    'Cache modes are: none, off, directsync, writeback, unsafe, writethrough.',
  ],
  [
    /filesystem does not support O_DIRECT$/,
    'Use another cache mode, as writeback, for what lies there.',
  ],
  [/Image is not in qcow2 format/, 'Leave -f out to have the format found by the content.'],
  [
    /Image creation needs a size parameter/,
    'Give one, as in 10G, or a backing file (-b) to take it from.',
  ],
  [
    /Backing file specified without backing format[\s\S]*Detected format of (\w+)/,
    ([, format]) => `Add -F ${format} if that is right.`,
  ],
  [
    /Trying to create an image with the same filename as the backing file/,
    'Choose another name for the overlay.',
  ],
  [
    /: Invalid parameter '(.*)'/,
    ([, word]) => {
      const meant = closest(word ?? '', CREATE_OPTIONS);
      return meant && `Did you mean '${meant}'?`;
    },
  ],
  [/The format '.*' is not supported/, 'qemu-img convert -O qcow2 makes a qcow2 image of it.'],
  [/which is not supported$|writing to it is not supported$/, 'qemu-img can work with it.'],
  [/requires '.*' to be a regular file/, 'Images are files or block devices.'],
  [
    /Unknown protocol '/,
    'Images are files or block devices; for a name with a colon, write ./NAME.',
  ],
];

const CREATE_OPTIONS =
  'backing_file backing_fmt cluster_size compat compression_type lazy_refcounts refcount_bits size'.split(
    ' ',
  );

const BY_ERRNO: Readonly<Record<string, string>> = {
  EACCES: 'Run this as a user who may open it, or change its permissions (ls -l tells them).',
  EPERM: 'Run this as a user who may open it; lsattr tells whether it is immutable.',
  EROFS: 'Its file system is mounted read-only.',
  ENOSPC: 'Make room (df tells how much there is) and run the same command again.',
  EDQUOT: 'The quota of this user is used up (quota tells it).',
  ENOENT: 'Check the name, and the directory it is seen from.',
  ELOOP: 'A symbolic link leads back to itself: ls -l tells where it points.',
};

export function hintFor(error: ImageError): string | undefined {
  const { message, errno, code } = error;
  const held = code === 'busy' ? heldBy(error.holders) : '';
  if (held !== '') return held + STOP_IT;
  const isOpening = code === 'io' && OPENING.test(message);
  if (isOpening && !OF_USER.has(errno ?? ''))
    return (withState(error, UNTOUCHED) as ImageError).hint;
  for (const [pattern, hint] of BY_MESSAGE) {
    const match = pattern.exec(message);
    if (match !== null) return typeof hint === 'string' ? hint : hint(match);
  }
  if (code === 'busy') return STOP_IT;
  if (MACHINE_WORDS.test(message)) return UNFINISHED;
  return errno === undefined ? undefined : BY_ERRNO[errno];
}

/** That never changes anything. */
const OPENING = /^Could not (open|lock|reopen|read qcow2 header)\b/;
/** Such an image can't be opened whenever it is tried. */
const OF_USER = new Set([
  'EACCES',
  'EPERM',
  'ELOOP',
  'ENAMETOOLONG',
  'EISDIR',
  'ENOTDIR',
  'EINVAL',
]);
/** Of what no command tells more. */
const MACHINE_WORDS =
  /^Could not (read from|write to|zero|copy to|resize|flush|allocate space in) '/;
const UNFINISHED =
  'What was there is as it was, or as it was to become; ' +
  'once the cause is gone, the same command may be run again.';
const STOP_IT = 'Stop it first; reading commands have -U to look all the same.';
const MOST_HOLDERS = 3;

function heldBy(holders: readonly LockHolder[]): string {
  if (holders.length === 0) return '';
  const names = holders.slice(0, MOST_HOLDERS).map(({ name, pid }) => `${name} (process ${pid})`);
  const more = holders.length > MOST_HOLDERS ? ` and ${holders.length - MOST_HOLDERS} more` : '';
  return `It is held by ${names.join(', ')}${more}. `;
}
