import type { Row } from '../runner/row.js';
import type { Change } from './compare.js';
import { duration, percent, withPrefix } from './format.js';

interface Column {
  readonly title: string;
  readonly width: number;
  readonly left?: boolean;
  readonly cell: (row: Row, change?: Change) => string;
}

/** Lines of a table whose rows are printed as they come, so that its widths are fixed beforehand. */
export interface Table {
  readonly header: readonly string[];
  line(row: Row, change?: Change): string;
  /** A row without numbers. */
  failed(name: string, shape: string, message: string): string;
  /** A row that was not tried. */
  skipped(name: string, shape: string, why: string): string;
}

/**
 * @param labels name and shape of all rows to come
 * @param options.compared add a column for the change against an earlier run
 * @param options.peers add a column for the share of a peer's speed
 * @param options.software add a column for the processor time, which is the adapter's own
 */
export function makeTable(
  labels: readonly { readonly name: string; readonly shape: string }[],
  {
    compared,
    software,
    peers = false,
  }: { readonly compared: boolean; readonly software: boolean; readonly peers?: boolean },
): Table {
  const longest = (texts: readonly string[]) => Math.max(...texts.map((text) => text.length));
  const names: Column[] = [
    {
      title: 'benchmark',
      width: longest(['benchmark', ...labels.map((label) => label.name)]),
      left: true,
      cell: (row) => row.name,
    },
    {
      title: 'shape',
      width: longest(['shape', ...labels.map((label) => label.shape)]),
      left: true,
      cell: (row) => row.shape,
    },
  ];
  const columns: Column[] = [
    ...names,
    { title: 'median', width: 8, cell: (row) => duration(row.median) },
    { title: 'least', width: 8, cell: (row) => duration(row.min) },
    { title: 'spread', width: 6, cell: (row) => percent(row.spread) },
    ...(software ? [{ title: 'cpu', width: 8, cell: (row: Row) => duration(row.cpu) }] : []),
    { title: 'host', width: 8, cell: (row) => (row.host === undefined ? '' : duration(row.host)) },
    { title: 'achieved', width: 13, cell: achieved },
    { title: 'of floor', width: 8, cell: (row) => (row.share === undefined ? 'peak' : percent(row.share)) },
    {
      title: 'tokens/s',
      width: 8,
      cell: (row) => (row.tokensPerSecond === undefined ? '' : withPrefix(row.tokensPerSecond, '').trimEnd()),
    },
    {
      title: 'memory',
      width: 8,
      cell: (row) => (row.memory === undefined ? '' : withPrefix(row.memory, 'B')),
    },
    ...(peers ? [{ title: 'of peer', width: 8, cell: peerText }] : []),
    ...(compared
      ? [
          {
            title: software ? 'cpu against' : 'against',
            width: 24,
            left: true,
            cell: (_: Row, change?: Change) => changeText(change),
          },
        ]
      : []),
  ];
  const join = (cells: readonly string[], of: readonly Column[] = columns) =>
    of
      .map(({ width, left }, index) => (left ? cells[index]!.padEnd(width) : cells[index]!.padStart(width)))
      .join('  ')
      .trimEnd();
  return {
    header: [join(columns.map(({ title }) => title)), columns.map(({ width }) => '─'.repeat(width)).join('  ')],
    line: (row, change) => join(columns.map(({ cell }) => cell(row, change))),
    failed: (name, shape, message) => `${join([name, shape], names)}  failed: ${message}`,
    skipped: (name, shape, why) => `${join([name, shape], names)}  skipped: ${why}`,
  };
}

/** The rate of what the floor says the work is bound by. */
function achieved(row: Row): string {
  const byMemory = row.bound ? row.bound === 'memory' : row.flops === 0;
  return byMemory ? withPrefix(row.bytesPerSecond, 'B/s') : withPrefix(row.flopsPerSecond, 'FLOP/s');
}

/** The share of the peer's speed; `~` where the peer's figure was not measured but given. */
function peerText({ peer }: Row): string {
  return peer ? `${peer.given ? '~' : ''}${percent(peer.ratio)}` : '';
}

function changeText(change: Change | undefined): string {
  if (!change) return 'new';
  const sign = change.change > 0 ? '+' : '−';
  const text = `${sign}${percent(Math.abs(change.change))}`.padStart(7);
  return change.verdict === 'same'
    ? `${text}  ·`
    : `${text}  ${change.verdict.toUpperCase()} (noise ${percent(change.noise)})`;
}
