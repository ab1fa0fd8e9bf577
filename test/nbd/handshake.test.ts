// The server's handshake, spoken to with hand-made bytes: what is agreed, what is refused, and what
// ends the connection. Other clients are served all the while.

import { describe, expect, test } from 'vitest';
import { Disk } from '../../src/daemon/disk.ts';
import { MemoryStorage } from '../../src/io/memory.ts';
import { decodeText, encodeText, joined, u16, u32s, viewOf } from '../../src/nbd/bytes.ts';
import { infoRequest, metaContextRequest, optionRequest } from '../../src/nbd/options.ts';
import * as spec from '../../src/nbd/spec.ts';
import { RawImage } from '../../src/raw/raw.ts';
import { serveExports } from '../support/nbd.ts';
import { RawClient } from '../support/nbd-bytes.ts';

const disk = () => new Disk(new RawImage(new MemoryStorage(new Uint8Array(65536))));

async function serving(): Promise<string> {
  const { socket } = await serveExports([
    { name: '', disk: disk(), writable: true },
    {
      name: 'b',
      description: 'the second',
      disk: disk(),
      writable: false,
      allocationDepth: true,
      bitmaps: ['one', 'two'],
    },
  ]);
  return socket;
}

/** What an option is answered with, in short. */
async function answers(
  client: RawClient,
  option: number,
  data?: Uint8Array,
): Promise<readonly (readonly [type: number, text: string])[]> {
  const replies = await client.option(option, data);
  return replies.map(({ type, data }) => [type, decodeText(data)] as const);
}

async function expectServed(socket: string): Promise<void> {
  const client = await RawClient.ready(socket, { structured: false });
  client.request(spec.NBD_CMD_FLUSH, 0, 0);
  expect(await client.simple()).toEqual({ error: 0, cookie: 1 });
}

describe('the greeting', () => {
  test('is fixed newstyle', async () => {
    const client = await RawClient.connect(await serving());
    const bytes = await client.reader.read(18);
    expect(decodeText(bytes.subarray(0, 16))).toBe('NBDMAGICIHAVEOPT');
    expect(viewOf(bytes).getUint16(16)).toBe(3);
  });

  test('unknown flags of a client end the connection', async () => {
    const socket = await serving();
    const client = await RawClient.greeted(socket, 7);
    await client.ended();
    await expectServed(socket);
  });

  test('a client that is not fixed newstyle may only name an export', async () => {
    const socket = await serving();
    const client = await RawClient.greeted(socket, 0);
    client.send(optionRequest(spec.NBD_OPT_LIST, new Uint8Array()));
    await client.ended();
    const other = await RawClient.greeted(socket, 0);
    other.send(optionRequest(spec.NBD_OPT_EXPORT_NAME, encodeText('b')));
    const bytes = await other.reader.read(134);
    expect(viewOf(bytes).getBigUint64(0)).toBe(65536n);
    expect(viewOf(bytes).getUint16(8) & spec.NBD_FLAG_READ_ONLY).toBeTruthy();
    expect(bytes.subarray(10).every((byte) => byte === 0)).toBe(true);
  });
});

describe('options', () => {
  test('LIST tells all exports', async () => {
    const client = await RawClient.greeted(await serving());
    expect(await answers(client, spec.NBD_OPT_LIST)).toEqual([
      [spec.NBD_REP_SERVER, '\0\0\0\0'],
      [spec.NBD_REP_SERVER, '\0\0\0\x01bthe second'],
      [spec.NBD_REP_ACK, ''],
    ]);
  });

  test('EXPORT_NAME without zeroes', async () => {
    const client = await RawClient.greeted(await serving());
    client.send(optionRequest(spec.NBD_OPT_EXPORT_NAME, encodeText('')));
    expect(viewOf(await client.reader.read(10)).getBigUint64(0)).toBe(65536n);
    client.request(spec.NBD_CMD_READ, 0, 8);
    expect(await client.simple()).toEqual({ error: 0, cookie: 1 });
  });

  test('EXPORT_NAME of what is not there ends the connection', async () => {
    const socket = await serving();
    for (const name of ['nope', 'x'.repeat(5000)]) {
      const client = await RawClient.greeted(socket);
      client.send(optionRequest(spec.NBD_OPT_EXPORT_NAME, encodeText(name)));
      await client.ended();
    }
    await expectServed(socket);
  });

  test('INFO tells of an export and goes on', async () => {
    const client = await RawClient.greeted(await serving());
    const data = infoRequest({
      name: 'b',
      infos: [spec.NBD_INFO_NAME, spec.NBD_INFO_BLOCK_SIZE, 77],
    });
    const replies = await client.option(spec.NBD_OPT_INFO, data);
    const kinds = replies.map(({ data }) => (data.length > 0 ? viewOf(data).getUint16(0) : -1));
    expect(kinds).toEqual([
      spec.NBD_INFO_NAME,
      spec.NBD_INFO_DESCRIPTION,
      spec.NBD_INFO_BLOCK_SIZE,
      spec.NBD_INFO_EXPORT,
      -1,
    ]);
    expect([...(replies[2]?.data ?? [])]).toEqual([...u16(3), ...u32s(1, 4096, 32 * 2 ** 20)]);
    expect((await client.option(spec.NBD_OPT_LIST)).length).toBe(3);
  });

  test.each([
    ['INFO', spec.NBD_OPT_INFO],
    ['GO', spec.NBD_OPT_GO],
  ])('%s of what is not there is refused, and the next one heard', async (_what, option) => {
    const client = await RawClient.greeted(await serving());
    const missing = infoRequest({ name: 'nope', infos: [] });
    expect(await answers(client, option, missing)).toEqual([
      [spec.NBD_REP_ERR_UNKNOWN, "export 'nope' not present"],
    ]);
    const there = await client.option(option, infoRequest({ name: '', infos: [] }));
    expect(there.at(-1)?.type).toBe(spec.NBD_REP_ACK);
  });

  test('what does not fit its length is refused, and the next one heard', async () => {
    const client = await RawClient.greeted(await serving());
    const wrong: readonly (readonly [number, Uint8Array])[] = [
      [spec.NBD_OPT_GO, u16(0)],
      [spec.NBD_OPT_GO, u32s(0xffff_ffff)],
      [spec.NBD_OPT_GO, joined(u32s(5), encodeText('ab'))],
      [spec.NBD_OPT_GO, joined(u32s(0), u16(3), u16(0))],
      [spec.NBD_OPT_GO, joined(infoRequest({ name: '', infos: [] }), u16(0))],
      [spec.NBD_OPT_GO, infoRequest({ name: 'a\0b', infos: [] })],
      [spec.NBD_OPT_GO, infoRequest({ name: 'x'.repeat(4097), infos: [] })],
      [spec.NBD_OPT_LIST, u32s(1)],
      [spec.NBD_OPT_STRUCTURED_REPLY, u32s(1)],
      [spec.NBD_OPT_STARTTLS, u32s(1)],
      [spec.NBD_OPT_SET_META_CONTEXT, metaContextRequest({ name: '', queries: [] })],
    ];
    for (const [option, data] of wrong) {
      const replies = await client.option(option, data);
      expect([option, replies.map(({ type }) => type)]).toEqual([
        option,
        [spec.NBD_REP_ERR_INVALID],
      ]);
    }
    await client.option(spec.NBD_OPT_STRUCTURED_REPLY);
    const many = joined(u32s(0), u32s(0xffff_ffff));
    for (const data of [many, joined(u32s(0), u32s(2), u32s(1))]) {
      const [reply] = await client.option(spec.NBD_OPT_SET_META_CONTEXT, data);
      expect(reply?.type).toBe(spec.NBD_REP_ERR_INVALID);
    }
  });

  test('what is too long is passed over', async () => {
    const client = await RawClient.greeted(await serving());
    const [reply] = await client.option(spec.NBD_OPT_LIST, new Uint8Array(5 * 2 ** 20));
    expect(reply?.type).toBe(spec.NBD_REP_ERR_TOO_BIG);
    expect((await client.option(spec.NBD_OPT_LIST)).length).toBe(3);
  });

  test('unknown ones are not supported', async () => {
    const client = await RawClient.greeted(await serving());
    for (const option of [0, 4, 11, 0xffff_ffff]) {
      const [reply] = await client.option(option, u32s(1, 2, 3));
      expect(reply?.type).toBe(spec.NBD_REP_ERR_UNSUP);
    }
  });

  test('STARTTLS is a matter of policy where there are no credentials', async () => {
    const client = await RawClient.greeted(await serving());
    expect(await answers(client, spec.NBD_OPT_STARTTLS)).toEqual([
      [spec.NBD_REP_ERR_POLICY, 'TLS not configured'],
    ]);
  });

  test('structured replies are agreed on once', async () => {
    const client = await RawClient.greeted(await serving());
    expect(await answers(client, spec.NBD_OPT_STRUCTURED_REPLY)).toEqual([[spec.NBD_REP_ACK, '']]);
    const [again] = await client.option(spec.NBD_OPT_STRUCTURED_REPLY);
    expect(again?.type).toBe(spec.NBD_REP_ERR_INVALID);
  });

  test('ABORT is acknowledged, and ends it', async () => {
    const client = await RawClient.greeted(await serving());
    expect(await answers(client, spec.NBD_OPT_ABORT)).toEqual([[spec.NBD_REP_ACK, '']]);
    await client.ended();
  });

  test('a bad magic ends the connection', async () => {
    const socket = await serving();
    const client = await RawClient.greeted(socket);
    client.send(encodeText('IHAVEOPX'), u32s(spec.NBD_OPT_LIST, 0));
    await client.ended();
    await expectServed(socket);
  });

  test('half-sent ones end with their connection', async () => {
    const socket = await serving();
    const whole = optionRequest(spec.NBD_OPT_GO, infoRequest({ name: '', infos: [] }));
    for (let length = 1; length < whole.length; length += 5) {
      const client = await RawClient.greeted(socket);
      client.send(whole.subarray(0, length));
      client.socket.end();
      await client.ended();
    }
    await expectServed(socket);
  });
});

describe('meta contexts', () => {
  async function agreed(): Promise<RawClient> {
    const client = await RawClient.greeted(await serving());
    await client.option(spec.NBD_OPT_STRUCTURED_REPLY);
    return client;
  }

  async function names(client: RawClient, option: number, queries: readonly string[], name = 'b') {
    const replies = await client.option(option, metaContextRequest({ name, queries }));
    return replies
      .filter(({ type }) => type === spec.NBD_REP_META_CONTEXT)
      .map(({ data }) => `${viewOf(data).getUint32(0)} ${decodeText(data.subarray(4))}`);
  }

  const LIST = spec.NBD_OPT_LIST_META_CONTEXT;
  const SET = spec.NBD_OPT_SET_META_CONTEXT;

  test('are listed: all, a namespace, a group, one', async () => {
    const client = await agreed();
    const all = ['base:allocation', 'qemu:allocation-depth']
      .concat(['one', 'two'].map((each) => `qemu:dirty-bitmap:${each}`))
      .map((each) => `0 ${each}`);
    expect(await names(client, LIST, [])).toEqual(all);
    expect(await names(client, LIST, ['base:'])).toEqual(all.slice(0, 1));
    expect(await names(client, LIST, ['qemu:'])).toEqual(all.slice(1));
    expect(await names(client, LIST, ['qemu:dirty-bitmap:'])).toEqual(all.slice(2));
    expect(await names(client, LIST, ['qemu:dirty-bitmap:two'])).toEqual(all.slice(3));
    expect(await names(client, LIST, ['x:y', 'base:none', 'qemu:dirty-bitmap:tw'])).toEqual([]);
    expect(await names(client, LIST, [], '')).toEqual(all.slice(0, 1));
  });

  test('are chosen by their names alone', async () => {
    const client = await agreed();
    expect(await names(client, SET, ['qemu:dirty-bitmap:two', 'base:allocation', 'foo:'])).toEqual([
      '0 base:allocation',
      '3 qemu:dirty-bitmap:two',
    ]);
    expect(await names(client, SET, ['base:', 'qemu:dirty-bitmap:'])).toEqual([]);
    expect(await names(client, SET, [])).toEqual([]);
  });

  test('are chosen for the export that is used, or not at all', async () => {
    const client = await agreed();
    expect(await names(client, SET, ['base:allocation'], 'b')).toEqual(['0 base:allocation']);
    await client.option(spec.NBD_OPT_GO, infoRequest({ name: '', infos: [] }));
    client.request(spec.NBD_CMD_BLOCK_STATUS, 0, 512);
    expect((await client.error()).error).toBe(22);
  });
});
