/** The layouts of instruction data that the API reads. */

/** Value and words of each. @type {[string, string][]} */
export const FORMATS = [
  ["p3", "P3"],
  ["flan_mini", "Flan mini"],
  ["alpaca", "Alpaca"],
  ["prompt_completion", "Prompt and completion"],
  ["messages", "Messages"],
  ["sharegpt", "ShareGPT"],
  ["ultrachat", "UltraChat"],
  ["niv2", "Natural Instructions v2"],
  ["examples", "Nearfirst's own rows"],
];

const names = new Map(FORMATS);

/** What a format is called. @param {string} format */
export const formatName = (format) => names.get(format) ?? format;
