/** One number of one thing, as Prometheus takes it. */
export interface Metric {
  name: string;
  help: string;
  type: "gauge" | "counter";
  samples: { labels: Record<string, string>; value: number }[];
}

const escapedHelp = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
const escapedLabel = (text: string): string => escapedHelp(text).replaceAll('"', '\\"');

const labelsText = (labels: Record<string, string>): string => {
  const told = Object.entries(labels).map(([name, value]) => `${name}="${escapedLabel(value)}"`);
  return told.length === 0 ? "" : `{${told.join(",")}}`;
};

/** The text format, version 0.0.4. A metric without samples keeps its description, so that its name is known. */
export const metricsText = (metrics: readonly Metric[]): string =>
  metrics
    .map(({ name, help, type, samples }) =>
      [
        `# HELP ${name} ${escapedHelp(help)}`,
        `# TYPE ${name} ${type}`,
        ...samples.map(({ labels, value }) => `${name}${labelsText(labels)} ${value}`),
        "",
      ].join("\n"),
    )
    .join("");
