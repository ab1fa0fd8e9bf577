// A client of hand-made bytes: says what it is told, and reads what comes.

import { connect, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { joined, u16, u32s, u64, viewOf } from '../../src/nbd/bytes.ts';
import { infoRequest, metaContextRequest, optionRequest } from '../../src/nbd/options.ts';
import {
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
} from '../../src/nbd/spec.ts';
import { EndOfStream, StreamReader } from '../../src/nbd/stream-reader.ts';

export class RawClient {
  readonly socket: Socket;
  readonly reader: StreamReader;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    this.reader = new StreamReader(socket);
    onTestFinished(() => {
      socket.destroy();
    });
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = connect({ path });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new RawClient(socket);
  }

  /** Behind the greeting, with the client's flags sent. */
  static async greeted(path: string, flags = 3): Promise<RawClient> {
    const client = await RawClient.connect(path);
    await client.reader.read(18);
    client.send(u32s(flags));
    return client;
  }

  /** In the transmission phase of an export. */
  static async ready(
    path: string,
    { name = '', structured = true, queries = ['base:allocation'] } = {},
  ): Promise<RawClient> {
    const client = await RawClient.greeted(path);
    if (structured) {
      await client.option(NBD_OPT_STRUCTURED_REPLY);
      await client.option(NBD_OPT_SET_META_CONTEXT, metaContextRequest({ name, queries }));
    }
    const replies = await client.option(NBD_OPT_GO, infoRequest({ name, infos: [] }));
    if (replies.at(-1)?.type !== NBD_REP_ACK) throw new Error(`no export '${name}'`);
    return client;
  }

  send(...pieces: readonly Uint8Array[]): void {
    this.socket.write(joined(...pieces));
  }

  /** All replies to an option, up to the last one. */
  async option(
    option: number,
    data: Uint8Array = new Uint8Array(),
  ): Promise<readonly { readonly type: number; readonly data: Uint8Array }[]> {
    this.send(optionRequest(option, data));
    const replies: { type: number; data: Uint8Array }[] = [];
    for (;;) {
      const head = viewOf(await this.reader.read(20));
      const type = head.getUint32(12);
      replies.push({ type, data: await this.reader.read(head.getUint32(16)) });
      if (type === NBD_REP_ACK || type >= 0x8000_0000) return replies;
    }
  }

  request(
    type: number,
    offset: number,
    length: number,
    { flags = 0, cookie = 1, payload = new Uint8Array() } = {},
  ): void {
    this.send(
      u32s(0x2560_9513),
      u16(flags),
      u16(type),
      u32s(0, cookie),
      u64(offset),
      u32s(length),
      payload,
    );
  }

  /** One simple reply, without data. */
  async simple(): Promise<{ readonly error: number; readonly cookie: number }> {
    const view = viewOf(await this.reader.read(16));
    if (view.getUint32(0) !== 0x6744_6698) throw new Error('no simple reply');
    return { error: view.getUint32(4), cookie: view.getUint32(12) };
  }

  /** One chunk of a structured reply. */
  async chunk(): Promise<{
    readonly flags: number;
    readonly type: number;
    readonly cookie: number;
    readonly content: Uint8Array;
  }> {
    const view = viewOf(await this.reader.read(20));
    if (view.getUint32(0) !== 0x668e_33ef) throw new Error('no structured reply');
    const content = await this.reader.read(view.getUint32(16));
    const [flags, type, cookie] = [view.getUint16(4), view.getUint16(6), view.getUint32(12)];
    return { flags, type, cookie, content };
  }

  /** An error, in whichever form: its number on the wire. */
  async error(): Promise<{ readonly error: number; readonly message: string }> {
    const { type, content } = await this.chunk();
    if (type !== 0x8001) throw new Error(`no error: chunk ${type}`);
    const error = viewOf(content).getUint32(0);
    return { error, message: new TextDecoder().decode(content.subarray(6)) };
  }

  /** Resolves once the server has ended the connection; what it sent before is left out. */
  async ended(): Promise<void> {
    try {
      for (;;) await this.reader.read(1);
    } catch (error) {
      if (!(error instanceof EndOfStream)) throw error;
    }
  }
}
