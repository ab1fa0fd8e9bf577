// Images by description, good and bad, through the real qemu-img and through ours: word for word.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asQemu } from '../support/cli.ts';
import { type Outcome, qemuImg, qemuIo, run } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const ours = asQemu();
const { dir, cleanup } = makeTemp();
afterAll(() => {
  ours.remove();
  cleanup();
});

const RULE_FILES = {
  good: '[inject-error]\nevent = "write_aio"\nerrno = "28"\n',
  named: '# a comment\n\n[set-state "x"]\nevent = "write_aio"\n  new_state = "2"\n',
  member: '[inject-error]\nevent = "write_aio"\nfoo = "1"\n',
  eventless: '[inject-error]\nerrno = "28"\n',
  group: '[foo]\nerrno = "28"\n',
  junk: 'junk\n',
  event: '[inject-error]\n  event = "x"\n',
  unquoted: '[inject-error]\nevent = write_aio\n',
  number: '[inject-error]\nevent = "write_aio"\nerrno = "x"\n',
  word: '[inject-error]\njunk\n',
  tail: '[inject-error] x\nevent = "x"y\n',
};

beforeAll(async () => {
  const at = (name: string) => join(dir, name);
  mkdirSync(at('sub'));
  await qemuImg('create', '-q', '-f', 'qcow2', at('b.qcow2'), '3M');
  const over = (backing: string, format: string, name: string) =>
    qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', format, at(name), '4M');
  await over('b.qcow2', 'qcow2', 't.qcow2');
  await over('../b.qcow2', 'qcow2', 'sub/s.qcow2');
  await over('json:{"driver":"qcow2","file":{"filename":"b.qcow2"}}', 'qcow2', 'jq.qcow2');
  await over('json:{"driver":"null-co","size":4194304}', 'raw', 'jn.qcow2');
  await over('json:{"driver":"quorum"}', 'raw', 'jf.qcow2');
  await over('json:{"driver":', 'raw', 'jx.qcow2');
  await over('blkdebug::b.qcow2', 'qcow2', 'bd.qcow2');
  await over('null-co://', 'raw', 'nc.qcow2');
  await qemuIo(at('t.qcow2'), ['write -P 3 1M 1M']);
  await qemuImg('create', '-q', '-f', 'raw', at('r.raw'), '1M');
  for (const [name, text] of Object.entries(RULE_FILES)) writeFileSync(at(`${name}.conf`), text);
});

/** `X` in a form stands for each of the words. */
const each = (form: string, words: string): string[] =>
  words.split(' ').map((word) => form.replace('X', word));

const QCOW2 = 'driver=qcow2,file.filename=t.qcow2';
const DEBUG = 'driver=qcow2,file.driver=blkdebug,file.image.filename=t.qcow2';
const RULE = 'inject-error.0.event=write_aio,file.inject-error.0.';

const OPTS = [
  ...each(
    'X',
    'driver=file,filename=t.qcow2 driver=raw,file.filename=t.qcow2 driver=raw,filename=t.qcow2 ' +
      'filename=t.qcow2 driver=qcow2 driver=nosuch driver= t.qcow2 t.qcow2,driver=qcow2 =x ' +
      'driver=qcow2,file=t.qcow2 driver=qcow2,file.driver=nosuch driver=qcow2,file.driver=file ' +
      'driver=qcow2,file.filename=nope driver=qcow2,file.filename= driver=file ' +
      'driver=raw,file.foo=1,file.filename=r.raw file.filename=t.qcow2 driver=raw,file.driver=raw ' +
      'driver=qcow2,file.driver=raw,file.file.filename=t.qcow2 ' +
      'driver=raw,file.driver=host_device,file.filename=r.raw ' +
      'driver=qcow2,,x',
  ),
  ...each(
    'driver=raw,file.filename=r.raw,X',
    'offset=512,size=1024 offset=512 size=64k size=1000 offset=100,size=1024 offset=100000000 ' +
      'size=100000000 size=2M offset=x size=-1 foo=bar offset=0x200 offset=1.5k',
  ),
  ...each(
    'driver=null-coX',
    ',size=1G ,size=1G,read-zeroes=on,latency-ns=5 ,latency-ns=-5 ,size=1000 ,filename=x ,foo=1',
  ),
  'driver=null-co',
  'driver=raw,file.driver=null-co,file.size=1M',
  ...each(
    `${QCOW2},X`,
    'read-only=on read-only=x auto-read-only=q cache.direct=on cache.direct=x cache.foo=on ' +
      'discard=unmap discard=foo detect-zeroes=on detect-zeroes=unmap detect-zeroes=foo ' +
      'discard=unmap,detect-zeroes=unmap node-name=foo node-name=1foo force-share=on ' +
      'lazy-refcounts=on lazy-refcounts=x overlap-check=all overlap-check=foo ' +
      'overlap-check.template=foo overlap-check.main-header=on overlap-check.foo=on cache-size=1M ' +
      'cache-size=x l2-cache-entry-size=500 l2-cache-entry-size=128k l2-cache-entry-size=4k cache-size=1M,l2-cache-size=2M encrypt.format=luks ' +
      'encrypt.key-secret=foo pass-discard-other=x snapshot=on copy-on-read=on bar nobar foo= ' +
      'file.locking=off file.locking=x file.aio=threads file.aio=native file.pr-manager=x ' +
      'driver=raw file.filename=b.qcow2 id=foo id=1 zoo=1,foo.x=2 backing= backing=b ' +
      'backing.driver=qcow2',
  ),
  ...each(
    `${DEBUG},file.X`,
    'foo=1 config=good.conf config=nope.conf align=1000 align=4096 max-transfer=4096 align=1T ' +
      'x-image=y filename=foo image.foo=1 inject-error.0.event=none inject-error.0.event=nosuch ' +
      'inject-error.0.errno=5 inject-error.1.event=write_aio inject-error.event=write_aio ' +
      `inject-error=x inject-error.0=x ${RULE}errno=28 ${RULE}errno=-1 ${RULE}foo=1 ${RULE}once=x ` +
      `${RULE}iotype=x ${RULE}state=x ${RULE}sector=x ${RULE}immediately=on ` +
      'set-state.0.event=write_aio,file.set-state.0.new_state=2 set-state.0.event=foo ' +
      'set-state.0.event=none,file.set-state.0.foo=x set-state.0.event=none,file.set-state.0.state=x',
  ),
].map((opts) => ['info', '--image-opts', opts]);

const JSON_TEXTS = `
{"driver":"qcow2","file":{"driver":"file","filename":"t.qcow2"}}
{'driver':'qcow2','file.filename':'t.qcow2'}
{"file":{"filename":"t.qcow2"}}
{"file":"t.qcow2"}
{"driver":"raw","offset":512,"size":1024,"file":{"filename":"r.raw"}}
{"driver":"raw","offset":512.5,"file":{"filename":"r.raw"}}
{"driver":"raw","offset":true,"file":{"filename":"r.raw"}}
{"driver":"raw","offset":null,"file":{"filename":"r.raw"}}
{"driver":"raw","offset":[1],"file":{"filename":"r.raw"}}
{"driver":"raw","offset":[],"file":{"filename":"r.raw"}}
{"driver":"null-co","size":1048576,"read-zeroes":true}
{"driver":1}
{"driver":null}
{}
{

[]
1
nosuch
{"driver"}
{"driver":}
{"driver":"raw",}
{"driver":"raw"} x
 {"driver":"raw", "file.filename":"r.raw"}
{"a":"\\q"}
{"a":"abc}
{driver:"raw"}
{"driver":"raw","driver":"qcow2","file.filename":"t.qcow2"}
{"driver":"raw","file.filename":"r.raw","file":{"filename":"t.qcow2"}}
{"driver":"file","filename":5}
{"driver":"file","filename":"json:{}"}
{"driver":"qcow2","file":{"driver":"file","filename":"file:t.qcow2"}}
{"driver":"qcow2","backing":null,"file":{"filename":"sub/s.qcow2"}}
{"driver":"qcow2","backing":"x","file":{"filename":"t.qcow2"}}
{"driver":"qcow2","backing":{"driver":"qcow2","file.filename":"b.qcow2"},"file":{"filename":"t.qcow2"}}
{"driver":"raw","backing":null,"file":{"filename":"t.qcow2"}}
{"driver":"raw","backing.driver":"qcow2","file":{"filename":"t.qcow2"}}
{"driver":"raw","offset":"\\u00e9","file":{"filename":"r.raw"}}
{1:2}
{"a" "b"}
{"a":1 "b":2}
{"a":[1 2]}
{,}
{"a":1,
{"a":01}
{"a":1.}
{"a":+1}
{"a":True}
{"a":"\\u00zz"}
{"a":"\\ud800"}
`
  .slice(1, -1)
  .split('\n')
  .map((text) => ['info', `json:${text}`]);

const NAMES = `
info null-co://
info --output=json null-co://
info null-co:foo
info -f raw null-co://
info file:t.qcow2
info blkdebug::sub/s.qcow2
info blkdebug:t.qcow2
info blkdebug::nope
info blkdebug::blkdebug::t.qcow2
info blkdebug:.:t.qcow2
info -f raw json:{"driver":"qcow2","file.filename":"t.qcow2"}
info -U --image-opts ${QCOW2},force-share=off
info -U --image-opts ${QCOW2},force-share=on
info --backing-chain jq.qcow2
info --output=json --backing-chain jq.qcow2
info --backing-chain bd.qcow2
info --backing-chain nc.qcow2
info --backing-chain jn.qcow2
info --backing-chain jf.qcow2
info --backing-chain jx.qcow2
info --output=json blkdebug:good.conf:t.qcow2
check blkdebug:good.conf:t.qcow2
check --image-opts driver=raw,file.filename=t.qcow2
check --output=json --image-opts ${DEBUG}
check --image-opts driver=null-co
commit jf.qcow2
commit jx.qcow2
commit -b b.qcow2 jq.qcow2
commit -b ./b.qcow2 bd.qcow2
commit --image-opts driver=null-co
commit --image-opts driver=raw,file.filename=t.qcow2
commit --image-opts driver=raw,file.filename=t.qcow2,backing.driver=qcow2
commit --image-opts ${QCOW2},read-only=on
commit --image-opts ${QCOW2},file.read-only=on
commit --image-opts ${QCOW2},force-share=on
commit --image-opts ${QCOW2},backing=
commit --image-opts ${QCOW2},backing=b
commit --image-opts ${QCOW2},foo=1,backing.bar=1
commit --image-opts ${QCOW2},backing.driver=raw,backing.file.driver=blkdebug,backing.file.image.filename=r.raw
commit --image-opts ${QCOW2},backing.driver=qcow2,backing.file.filename=nope
commit --image-opts ${QCOW2},backing.driver=qcow2,backing.foo=1,backing.file.filename=b.qcow2
commit -f qcow2 --image-opts ${QCOW2}
`
  .trim()
  .split('\n')
  .map((line) => line.split(' '));

const RULES = Object.keys(RULE_FILES).map((name) => ['info', `blkdebug:${name}.conf:t.qcow2`]);

const steady = ({ code, stdout, stderr }: Outcome) => ({ code, stdout, stderr });

const ALL = [...OPTS, ...JSON_TEXTS, ...NAMES, ...RULES].map((args) => ({
  args,
  line: args.join(' '),
}));
const isCommit = ({ args }: { readonly args: readonly string[] }) => args[0] === 'commit';

/** None of them changes an image, so that all can use the same ones. */
async function same(args: readonly string[]): Promise<void> {
  const theirs = await run('qemu-img', args, { cwd: dir });
  const mine = await ours.run(args, dir);
  expect(steady(mine)).toEqual(steady(theirs));
}

test.concurrent.each(ALL.filter((each) => !isCommit(each)))('qemu-img $line', ({ args }) =>
  same(args),
);

// One after the other, as they lock what they open.
test.each(ALL.filter(isCommit))('qemu-img $line', ({ args }) => same(args));

const CHANGING: readonly (readonly string[])[] = [
  ['commit', 'jq.qcow2'],
  ['commit', 'bd.qcow2'],
  ['commit', 'nc.qcow2'],
  ['commit', '-b', 'blkdebug::b.qcow2', 'bd.qcow2'],
  ['commit', `json:{"driver":"qcow2","file.filename":"t.qcow2","backing":{}}`],
  ['commit', '--image-opts', `${QCOW2},backing.driver=raw,backing.file.filename=r.raw`],
  ['commit', '--image-opts', `${QCOW2},backing.read-only=on,file.locking=off,cache.no-flush=on`],
  ['commit', '-b', './b.qcow2', '--image-opts', `${QCOW2},backing.file.filename=b.qcow2`],
];

test.each(CHANGING.map((args) => ({ args, line: args.join(' ') })))(
  'qemu-img $line',
  async ({ args }) => {
    const temp = makeTemp();
    try {
      const outcomes = [];
      for (const side of ['theirs', 'mine']) {
        const cwd = join(temp.dir, side);
        await run('cp', ['-r', dir, cwd]);
        const outcome =
          side === 'mine' ? await ours.run(args, cwd) : await run('qemu-img', args, { cwd });
        outcomes.push(steady(outcome));
      }
      expect(outcomes[1]).toEqual(outcomes[0]);
      for (const name of ['b.qcow2', 't.qcow2', 'jq.qcow2', 'bd.qcow2', 'r.raw']) {
        const pair = [join('../theirs', name), join('../mine', name)];
        await run('qemu-img', ['compare', '-q', ...pair], { cwd: join(temp.dir, 'mine') }).then(
          ({ code, stderr }) => expect(code, stderr).toBe(0),
        );
      }
    } finally {
      temp.cleanup();
    }
  },
);
