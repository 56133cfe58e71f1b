// Reads a JSON list of texts from stdin, prints the JSON list of their token counts.
const { countTokens } = require("@anthropic-ai/tokenizer");
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((text) => countTokens(text))));
