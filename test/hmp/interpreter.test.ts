// Lines of the human monitor, and what QEMU prints for them.

import { expect, test } from 'vitest';
import type { HmpCommand } from '../../src/hmp/command.ts';
import { Interpreter } from '../../src/hmp/interpreter.ts';

const device = { name: 'device', kind: 'device' } as const;
const shown = (name: string, given: unknown) => `${name} ${JSON.stringify(given)}\n`;

const COMMANDS: readonly HmpCommand[] = [
  {
    name: 'block_job_cancel',
    arguments: [{ name: 'force', kind: 'flag', letter: 'f' }, device],
    shown: '[-f] device',
    about: 'stop an active background block operation (use -f\n\t\t\t if you want)',
    run: (given) => shown('cancel', given),
  },
  {
    name: 'block_job_set_speed',
    arguments: [device, { name: 'speed', kind: 'size' }],
    shown: 'device speed',
    about: 'set maximum speed',
    run: (given) => shown('speed', given),
  },
  {
    name: 'quit|q',
    arguments: [],
    shown: '',
    about: 'quit the emulator',
    run: () => '',
  },
  {
    name: 'info',
    arguments: [],
    shown: '[subcommand]',
    about: 'show various information about the system state',
    below: [
      {
        name: 'block',
        arguments: [
          { name: 'nodes', kind: 'flag', letter: 'n' },
          { name: 'verbose', kind: 'flag', letter: 'v' },
          { ...device, optional: true },
        ],
        shown: '[-n] [-v] [device]',
        about: 'show info of one block device or all block devices',
        run: (given) => shown('block', given),
      },
      {
        name: 'block-jobs',
        arguments: [],
        shown: '',
        about: 'show progress of ongoing block device operations',
        run: () => 'No active jobs\n',
      },
    ],
  },
];

const interpreter = new Interpreter({
  commands: COMMANDS,
  errorText: (error) => `Error: ${(error as Error).message}\n`,
});
const print = (line: string) => interpreter.run(line);
const tryHelp = (name: string) => `\r\nTry "help ${name}" for more information\r\n`;

test.each([
  ['', ''],
  ['   ', ''],
  ['nosuch x', "unknown command: 'nosuch'\r\n"],
  ['info nosuch', "unknown command: 'info nosuch'\r\n"],
  ['info block_jobs', "unknown command: 'info block_jobs'\r\n"],
  ['info\tblock-jobs', 'No active jobs\r\n'],
  ['   info    block-jobs   ', 'No active jobs\r\n'],
  [
    'info block-jobs x',
    `block-jobs: extraneous characters at the end of line${tryHelp('info block-jobs')}`,
  ],
  ['info block -x', `block: unsupported option -x${tryHelp('info block')}`],
  [
    'info block -v -n d1',
    `block: extraneous characters at the end of line${tryHelp('info block')}`,
  ],
  ['info block -vn d1', `block: extraneous characters at the end of line${tryHelp('info block')}`],
  ['info block -v d1', 'block {"nodes":false,"verbose":true,"device":"d1"}\r\n'],
  ['info block', 'block {"nodes":false,"verbose":false}\r\n'],
  [
    'block_job_cancel',
    `block_job_cancel: block device name expected${tryHelp('block_job_cancel')}`,
  ],
  [
    'block_job_cancel -x d0',
    `block_job_cancel: unsupported option -x${tryHelp('block_job_cancel')}`,
  ],
  [
    'block_job_cancel -- d0',
    `block_job_cancel: unsupported option --${tryHelp('block_job_cancel')}`,
  ],
  [
    'block_job_cancel - d0',
    `block_job_cancel: unsupported option - ${tryHelp('block_job_cancel')}`,
  ],
  [
    'block_job_cancel -fx d0',
    `block_job_cancel: extraneous characters at the end of line${tryHelp('block_job_cancel')}`,
  ],
  ['block_job_cancel -f d0', 'cancel {"force":true,"device":"d0"}\r\n'],
  ['block_job_cancel "a\\n\\"b"', 'cancel {"force":false,"device":"a\\n\\"b"}\r\n'],
  ['block_job_cancel x"y"', 'cancel {"force":false,"device":"x\\"y\\""}\r\n'],
  [
    'block_job_cancel "x',
    `block_job_cancel: block device name expected${tryHelp('block_job_cancel')}`,
  ],
  [
    'block_job_cancel "\\t"',
    `block_job_cancel: block device name expected${tryHelp('block_job_cancel')}`,
  ],
  ['block_job_set_speed d0', `invalid size${tryHelp('block_job_set_speed')}`],
  ['block_job_set_speed d0 abc', `invalid size${tryHelp('block_job_set_speed')}`],
  ['block_job_set_speed d0 -1', `invalid size${tryHelp('block_job_set_speed')}`],
  ['block_job_set_speed d0 8E', `invalid size${tryHelp('block_job_set_speed')}`],
  ['block_job_set_speed d0 1.5k', 'speed {"device":"d0","speed":1536}\r\n'],
  // A number alone counts MiB.
  ['block_job_set_speed d0 2', 'speed {"device":"d0","speed":2097152}\r\n'],
  ['q x', `quit|q: extraneous characters at the end of line${tryHelp('q')}`],
  ['help quit', 'quit|q  -- quit the emulator\r\n'],
  ['? help', 'help|? [cmd] -- show the help\r\n'],
  ['help nosuch', "unknown command: 'nosuch'\r\n"],
  ['help info nosuch', "unknown command: 'info nosuch'\r\n"],
  [
    'help info block x',
    'info block [-n] [-v] [device] -- show info of one block device or all block devices\r\n',
  ],
  [
    'help block_job_cancel',
    'block_job_cancel [-f] device -- stop an active background block operation (use -f\r\n' +
      '\t\t\t if you want)\r\n',
  ],
])('%j', async (line, text) => {
  expect(await print(line)).toBe(text);
});

test('help lists all, in the order of their names; info its own', async () => {
  const names = (text: string) => text.match(/^\S+(?= .*--)/gm);
  expect(names(await print('help'))).toEqual([
    'block_job_cancel',
    'block_job_set_speed',
    'help|?',
    'info',
    'quit|q',
  ]);
  expect(await print('info')).toBe(await print('help info'));
});

test('names are completed', () => {
  expect(interpreter.complete('block_j')).toEqual(['block_job_cancel', 'block_job_set_speed']);
  expect(interpreter.complete('info blo')).toEqual(['block', 'block-jobs']);
  expect(interpreter.complete('quit x ')).toEqual([]);
});
