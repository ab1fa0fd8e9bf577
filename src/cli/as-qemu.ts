// What a drop-in for qemu-img 7.2 has to know about it beyond its behaviour: which options it has by a
// long name, and the parts of its usage text that scripts look for.

import { DRIVERS } from '../chain/drivers.ts';

/** Long options of the commands; ours that are not among them do not exist for a drop-in. */
const LONG_OPTIONS: Readonly<Record<string, readonly string[]>> = {
  bitmap: [
    'add',
    'remove',
    'clear',
    'enable',
    'disable',
    'merge',
    'granularity',
    'source-file',
  ].concat(['source-format', 'object', 'image-opts']),
  check: ['format', 'repair', 'output', 'object', 'image-opts', 'force-share'],
  commit: ['object', 'image-opts'],
  compare: ['object', 'image-opts', 'force-share'],
  create: ['object'],
  info: ['format', 'output', 'backing-chain', 'object', 'image-opts', 'force-share'],
  map: ['format', 'output', 'object', 'image-opts', 'start-offset', 'max-length', 'force-share'],
  rebase: ['object', 'image-opts', 'force-share'],
  resize: ['object', 'image-opts', 'preallocation', 'shrink'],
  snapshot: ['object', 'image-opts', 'force-share'],
  'storage-daemon': ['blockdev', 'chardev', 'daemonize', 'export', 'monitor', 'nbd-server'].concat([
    'object',
    'pidfile',
    'trace',
    'version',
  ]),
};

export function isLongOptionOfQemu(verb: string, long: string): boolean {
  return long === 'help' || LONG_OPTIONS[verb]?.includes(long) === true;
}

const SYNTAX: Readonly<Record<string, string>> = {
  bitmap:
    '(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... ' +
    '[-b source_file [-F source_fmt]] [-g granularity] [--object objectdef] ' +
    '[--image-opts | -f fmt] filename bitmap',
  check:
    '[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] ' +
    '[-T src_cache] [-U] filename',
  commit:
    '[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] ' +
    '[-d] [-p] filename',
  compare:
    '[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] ' +
    'filename1 filename2',
  create:
    '[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] ' +
    'filename [size]',
  info: '[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename',
  map:
    '[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] ' +
    '[--output=ofmt] [-U] filename',
  rebase:
    '[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] ' +
    '-b backing_file [-F backing_fmt] filename',
  resize:
    '[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] ' +
    'filename [+ | -]size',
  snapshot:
    '[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] ' +
    'filename',
};

/** The usage text, whatever the command that it was asked of. `verbs`: those that there are. */
export function usage(version: string, verbs: readonly string[]): string {
  const syntax = verbs.flatMap((verb) => {
    const words = SYNTAX[verb];
    return words === undefined ? [] : [`  ${verb} ${words}`];
  });
  return `${[
    version.trimEnd(),
    'usage: qemu-img [standard options] command [command options]',
    'Images of disks in the formats of QEMU, handled by qimg-ts under the name of qemu-img',
    '',
    "    '-h', '--help'       print this text",
    "    '-V', '--version'    print the version",
    "    '-T', '--trace'      taken for compatibility; there is no tracing",
    '',
    'Command syntax:',
    ...syntax,
    '',
    'Command parameters:',
    "  'filename'    the image",
    "  'bitmap'      name of a persistent bitmap; SOURCE is another one's",
    "  'granularity' bytes of the disk for each bit: a power of two, 512 at least",
    "  'objectdef'   a secret: secret,id=ID,data=TEXT or secret,id=ID,file=NAME",
    "  'fmt'         format of the image; probed without it",
    "  'cache'       none, writeback (the default), writethrough, directsync or unsafe",
    "  'src_cache'   the same for images that are only read",
    "  'size'        bytes; with suffix k, M, G, T, P or E in powers of 1024",
    "  'prealloc'    off, metadata, falloc or full: what a larger disk has from the start",
    "  'options'     name=value,...; '-o help' lists those of a format",
    "  'ofmt'        human or json",
    "  'rate_limit'  bytes per second, with the suffixes of sizes",
    "  '-d'          commit: leave the image as it is, do not empty it",
    "  '-p'          show the progress",
    "  '-q'          print errors only",
    "  '-u'          create, rebase: do not look at the backing file",
    "  '-U'          open the image even while another process writes to it",
    '',
    `Supported formats: ${[...DRIVERS].sort().join(' ')}`,
  ].join('\n')}\n`;
}
