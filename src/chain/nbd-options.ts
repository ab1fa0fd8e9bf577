// Which export of which NBD server a name or a description means. Words for what is wrong are QEMU's.

import { ImageError } from '../errors.ts';
import type { NbdServerAddress, NbdTarget } from '../io/host.ts';
import type { JsonValue } from '../json/parser.ts';
import type { NbdNode } from './blockdev.ts';
import { protocolOf } from './filename.ts';
import { takeCommon } from './node-options.ts';
import type { OptionDict } from './option-dict.ts';

const DEFAULT_PORT = '10809';
/** The protocol's bound, in bytes. */
const MAX_NAME = 4096;

const invalid = (message: string) => new ImageError('invalid', message);

/** What a name says; what it leaves out, options may say. */
interface NamedExport {
  readonly server?: NbdServerAddress;
  readonly export?: string;
  readonly tls?: NbdTarget['tls'];
  readonly tlsHostname?: string | undefined;
}

/** QEMU has the first three. */
const SCHEMES = ['nbd', 'nbd+tcp', 'nbd+unix', 'nbds', 'nbds+unix'];

/** A name that this driver takes. */
export function isNbdName(name: string): boolean {
  return SCHEMES.includes(protocolOf(name) ?? '');
}

export function parseNbd(filename: string | undefined, options: OptionDict): NbdNode {
  if (filename !== undefined && ['host', 'port', 'path'].some((key) => options.has(key))) {
    throw invalid('host/port/path and file names may not be specified at the same time');
  }
  const named: NamedExport = filename === undefined ? {} : parseName(filename);
  const told = takeServer(options);
  const common = takeCommon(options);
  const server = named.server ?? told;
  if (server === undefined) throw invalid('NBD server address missing');
  const exported = named.export ?? options.takeText('export');
  if (exported !== undefined && new TextEncoder().encode(exported).length > MAX_NAME) {
    throw invalid('export name too long to send to server');
  }
  const tlsCreds = options.takeText('tls-creds');
  const tlsHostname = named.tlsHostname ?? options.takeText('tls-hostname');
  const reconnectDelay = takeSeconds(options, 'reconnect-delay');
  const openTimeout = takeSeconds(options, 'open-timeout');
  const target: NbdTarget = {
    filename: plainName(server, exported, named),
    server,
    export: exported ?? '',
    reconnectDelay,
    openTimeout,
    ...(tlsCreds !== undefined && { tlsCreds }),
    ...(tlsHostname !== undefined && { tlsHostname }),
    ...(named.tls !== undefined && { tls: named.tls }),
  };
  const strong = strongOf(target, exported);
  return { driver: 'nbd', target, common, strong, unknown: options.keys()[0] };
}

function strongOf(
  { server, tlsCreds, tlsHostname }: NbdTarget,
  exported: string | undefined,
): Map<string, JsonValue> {
  const strong = new Map<string, JsonValue>();
  for (const [key, value] of Object.entries(server)) strong.set(`server.${key}`, String(value));
  if (exported !== undefined) strong.set('export', exported);
  if (tlsCreds !== undefined) strong.set('tls-creds', tlsCreds);
  if (tlsHostname !== undefined) strong.set('tls-hostname', tlsHostname);
  return strong;
}

function plainName(
  server: NbdServerAddress,
  exported: string | undefined,
  { tls, tlsHostname }: NamedExport,
): string {
  const path = exported === undefined ? '' : `/${exported}`;
  const scheme = tls === undefined ? 'nbd' : 'nbds';
  const query = [
    ...(server.type === 'unix' ? [`socket=${server.path}`] : []),
    ...(tls?.certificates === undefined ? [] : [`tls-certificates=${tls.certificates}`]),
    ...(tlsHostname === undefined ? [] : [`tls-hostname=${tlsHostname}`]),
  ].join('&');
  if (server.type === 'unix') return `${scheme}+unix://${path}?${query}`;
  return `${scheme}://${server.host}:${server.port}${path}${query && `?${query}`}`;
}

function takeSeconds(options: OptionDict, key: string): number {
  const seconds = options.takeNumber(key) ?? 0;
  if (seconds >= 0 && seconds < 2 ** 32) return seconds;
  throw invalid(`Parameter '${key}' expects uint32_t`);
}

function parseName(name: string): NamedExport {
  return name.includes('://') ? parseUri(name) : parsePlain(name);
}

const EXPORT_NAME = ':exportname=';

/** `nbd:HOST:PORT` or `nbd:unix:PATH`, and an export's name. */
function parsePlain(name: string): NamedExport {
  const at = name.indexOf(EXPORT_NAME);
  const exported = at < 0 ? undefined : name.slice(at + EXPORT_NAME.length);
  // As QEMU: then the name says nothing at all.
  if (exported === '') return {};
  const place = (at < 0 ? name : name.slice(0, at)).slice('nbd:'.length);
  const found = exported === undefined ? {} : { export: exported };
  if (place === '') return found;
  if (place.startsWith('unix:')) {
    return { ...found, server: { type: 'unix', path: place.slice('unix:'.length) } };
  }
  return { ...found, server: parseInet(place) };
}

function parseInet(place: string): NbdServerAddress {
  const [form, what] = place.startsWith(':')
    ? [/^():([^,]+)/, 'port in address']
    : place.startsWith('[')
      ? [/^\[([^\]]+)\]:([^,]+)/, 'IPv6 address']
      : [/^([^:]+):([^,]+)/, 'address'];
  const [, host, port] = (form as RegExp).exec(place) ?? [];
  if (host === undefined || port === undefined) throw invalid(`error parsing ${what} '${place}'`);
  return { type: 'inet', host, port };
}

const noUrl = () => invalid('No valid URL specified');

/** `nbd://HOST[:PORT]/NAME`, `nbd+unix:///NAME?socket=PATH`; with TLS, `nbds` instead of `nbd`. */
function parseUri(name: string): NamedExport {
  const form = /^([^:]+):\/\/(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)(?::(\d*))?([^?#]*)(?:\?([^#]*))?/;
  const [, scheme = '', host = '', port = '', path = '', query = ''] = form.exec(name) ?? [];
  if (Number(port) > 65535) throw noUrl();
  const exported = decoded(path.replace(/^\//, ''));
  const found = exported === '' ? {} : { export: exported };
  const members = membersOf(query);
  const isUnix = scheme.endsWith('+unix');
  const secure = scheme.startsWith('nbds') ? takeTls(members) : {};
  const socket = members.get('socket');
  if (members.size !== (isUnix ? 1 : 0) || !SCHEMES.includes(scheme)) throw noUrl();
  if (isUnix) {
    if (socket === undefined || host !== '' || port !== '') throw noUrl();
    return { ...found, ...secure, server: { type: 'unix', path: socket } };
  }
  if (host === '') throw noUrl();
  const bare = decoded(host.replace(/^\[|\]$/g, ''));
  const server = { type: 'inet', host: bare, port: port === '' ? DEFAULT_PORT : port } as const;
  return { ...found, ...secure, server };
}

function membersOf(query: string): Map<string, string> {
  const members = new Map<string, string>();
  for (const [i, member] of (query === '' ? [] : query.split(/[&;]/)).entries()) {
    const at = member.indexOf('=');
    // Said twice, it makes no sense: it must not go unseen.
    const key = at < 0 ? member : member.slice(0, at);
    members.set(
      members.has(key) ? `${key} ${i}` : key,
      at < 0 ? '' : decoded(member.slice(at + 1)),
    );
  }
  return members;
}

/** What libnbd's names say of TLS, taken out. */
function takeTls(members: Map<string, string>): Pick<NamedExport, 'tls' | 'tlsHostname'> {
  const [certificates, tlsHostname] = ['tls-certificates', 'tls-hostname'].map((key) => {
    const value = members.get(key);
    members.delete(key);
    return value;
  });
  return { tls: certificates === undefined ? {} : { certificates }, tlsHostname };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** `server.*`, or the older way; undefined where nothing is said. */
function takeServer(options: OptionDict): NbdServerAddress | undefined {
  const path = options.takeText('path');
  const host = options.takeText('host');
  const port = options.takeText('port');
  const told = options.takeBelow('server.');
  const isOld = path !== undefined || host !== undefined || port !== undefined;
  if (path !== undefined && host !== undefined) {
    throw invalid('path and host may not be used at the same time');
  }
  if (port !== undefined && path !== undefined) {
    throw invalid('port may not be used without host');
  }
  if (isOld && told.size > 0) {
    throw invalid("Cannot use 'server' and path/host/port at the same time");
  }
  if (path !== undefined) return { type: 'unix', path };
  if (host !== undefined) return { type: 'inet', host, port: port ?? DEFAULT_PORT };
  return told.size === 0 ? undefined : serverOf(told);
}

const IGNORED = ['numeric', 'to', 'ipv4', 'ipv6', 'keep-alive', 'mptcp', 'abstract', 'tight'];

function serverOf(told: OptionDict): NbdServerAddress {
  const type = needed(told, 'type');
  if (type === 'vsock' || type === 'fd') {
    throw new ImageError('unsupported', `Sockets of the type '${type}' are not supported`);
  }
  if (type !== 'unix' && type !== 'inet') {
    throw invalid(`Parameter 'type' does not accept value '${type}'`);
  }
  const server: NbdServerAddress =
    type === 'unix'
      ? { type, path: needed(told, 'path') }
      : { type, host: needed(told, 'host'), port: needed(told, 'port') };
  // What they say of listening means nothing to who connects.
  for (const key of IGNORED) told.takeRaw(key);
  const [unexpected] = told.keys();
  if (unexpected !== undefined) throw invalid(`Parameter '${unexpected}' is unexpected`);
  return server;
}

function needed(told: OptionDict, key: string): string {
  const value = told.takeText(key);
  if (value === undefined) throw invalid(`Parameter '${key}' is missing`);
  return value;
}
