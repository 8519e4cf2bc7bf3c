import type { ModelSpec } from '../models/model-spec.js';
import { cacheReport } from '../report/cache-report.js';

/** What a model card says beyond what the model's configs tell. All of it is optional. */
export interface ModelCardDetails {
  /** Repository of the Transformer that the hybrid was made from. */
  readonly baseModel?: string;
  /** Licence, as the hub spells it (`apache-2.0`, `llama3.2`). A hybrid has the licence of its base model. */
  readonly license?: string;
  readonly datasets?: readonly string[];
  /** Codes such as `en`. */
  readonly languages?: readonly string[];
  /** One or two sentences for the top. */
  readonly summary?: string;
  /** Losses and other results by name, in the order in which they are to stand. */
  readonly losses?: Readonly<Record<string, number>>;
}

/**
 * Writes a model card (`README.md` with the hub's front matter): placement of the layers, ranks, share of the cache,
 * results, licence, and how to load the model.
 *
 * @param name `org/name`, for the title and the example
 * @param spec what the model is; see `readModelSpec`
 */
export function modelCard(name: string, spec: ModelSpec, details: ModelCardDetails = {}): string {
  const sections = [
    frontMatter(spec, details),
    `# ${line(name)}`,
    details.summary ?? defaultSummary(spec, details.baseModel),
    placementSection(spec),
    cacheSection(spec),
    resultsSection(details.losses),
    usageSection(name),
    licenseSection(details),
  ];
  return `${sections.filter((section) => section !== undefined).join('\n\n')}\n`;
}

function frontMatter(spec: ModelSpec, { baseModel, license, datasets, languages }: ModelCardDetails): string {
  const kinds = [...new Set(spec.layers)].filter((kind) => kind !== 'attention');
  const list = (key: string, values: readonly string[] = []) =>
    values.length > 0 ? [`${key}:`, ...values.map((value) => `- ${JSON.stringify(value)}`)] : [];
  return [
    '---',
    ...(license ? [`license: ${JSON.stringify(license)}`] : []),
    ...list('language', languages),
    ...(baseModel ? [`base_model: ${JSON.stringify(baseModel)}`] : []),
    ...list('datasets', datasets),
    'pipeline_tag: text-generation',
    ...list('tags', ['zebra', spec.config.modelType, ...(kinds.length > 0 ? ['hybrid', ...kinds] : [])]),
    '---',
  ].join('\n');
}

function defaultSummary(spec: ModelSpec, baseModel: string | undefined): string {
  const from = baseModel ? `, made from [${line(baseModel)}](https://huggingface.co/${encodeURI(baseModel)})` : '';
  const what = spec.hybrid ? `A hybrid of ${kindsOf(spec)} layers` : `A ${spec.config.modelType} Transformer`;
  return `${what}${from}.`;
}

const NAMES = { mla: 'MLA', mamba2: 'Mamba2', attention: 'attention' } as const;
const ORDER = ['mla', 'mamba2', 'attention'] as const;

function kindsOf(spec: ModelSpec): string {
  return ORDER.filter((kind) => spec.layers.includes(kind))
    .map((kind) => NAMES[kind])
    .join(' and ');
}

function placementSection({ layers, hybrid, config }: ModelSpec): string {
  const rows = ORDER.flatMap((kind) => {
    const at = layers.flatMap((each, layer) => (each === kind ? [layer] : []));
    return at.length > 0 ? [[NAMES[kind], String(at.length), at.join(', ')]] : [];
  });
  const sizes = [['hidden size', config.hiddenSize]] as [string, string | number][];
  sizes.push(['heads (query, key/value)', `${config.headCount}, ${config.keyValueHeadCount}`]);
  sizes.push(['vocabulary', config.vocabularySize]);
  if (hybrid && layers.includes('mla')) {
    const { mla } = hybrid;
    sizes.push(['rank of the query latent', mla.qLoraRank ?? 'full']);
    sizes.push(['rank of the key/value latent', mla.kvLoraRank]);
    sizes.push([
      'head sizes (no position, rotary, value)',
      `${mla.qkNopeHeadDim}, ${mla.qkRopeHeadDim}, ${mla.vHeadDim}`,
    ]);
    for (const [layer, ranks] of mla.layerRanks ?? []) {
      sizes.push([`ranks of layer ${layer} (query, key/value)`, `${ranks.qLoraRank ?? 'full'}, ${ranks.kvLoraRank}`]);
    }
  }
  if (hybrid && layers.includes('mamba2')) sizes.push(['Mamba2 state of a head', hybrid.mamba2.stateSize]);
  return [
    '## Layers',
    table(['mixer', 'layers', 'numbers, from 0'], rows),
    table(
      ['size', ''],
      sizes.map(([key, value]) => [key, String(value)]),
    ),
  ].join('\n\n');
}

function cacheSection({ hybrid, config }: ModelSpec): string | undefined {
  if (!hybrid) return undefined;
  const { bytesPerToken, teacherBytesPerToken, sharePercent, stateBytes } = cacheReport({
    transformer: config,
    hybrid,
  });
  const state = stateBytes > 0 ? ` Its recurrent states take ${stateBytes} bytes a row, however long it gets.` : '';
  return `## Cache\n\nIn float16 each token adds ${bytesPerToken} bytes, ${sharePercent.toFixed(2)}% of the ${teacherBytesPerToken} bytes of the Transformer.${state}`;
}

function resultsSection(losses: Readonly<Record<string, number>> | undefined): string | undefined {
  const entries = Object.entries(losses ?? {});
  if (entries.length === 0) return undefined;
  const rows = entries.map(([name, value]) => [name, String(Number(value.toPrecision(5)))]);
  return `## Results\n\n${table(['measure', 'value'], rows)}`;
}

function usageSection(name: string): string {
  return `## Use

\`\`\`sh
npm install @zebra/runtime @zebra/tensor
\`\`\`

\`\`\`js
import { fromPretrained, streamText } from '@zebra/runtime';
import { openDevice } from '@zebra/tensor';

const device = await openDevice();
const { model, tokenizer } = await fromPretrained(device, ${JSON.stringify(name)});
for await (const { text } of streamText(model, tokenizer, ['Once upon a time'])) process.stdout.write(text);
\`\`\``;
}

function licenseSection({ license, baseModel }: ModelCardDetails): string | undefined {
  if (!license) return undefined;
  const terms = baseModel ? ` The terms of ${line(baseModel)} apply.` : '';
  return `## Licence\n\n${line(license)}.${terms}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const write = (cells: readonly string[]) =>
    `| ${cells.map((cell) => line(cell).replaceAll('|', '\\|')).join(' | ')} |`;
  return [write(head), `|${' --- |'.repeat(head.length)}`, ...rows.map(write)].join('\n');
}

/** Text that stays on its line. */
function line(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
