// What the k6 scripts share: their settings (k6 run -e NAME=VALUE), an open loop, the thresholds.
//
// Requests leave at a fixed rate, whether or not earlier ones were answered: a server that stalls
// is asked on, and its latency shows. When all users wait, k6 drops requests, which fails the run.
import http from 'k6/http';

function number(name, preset) {
  const value = Number(__ENV[name] || preset);
  if (!(value > 0)) {
    throw new Error(`${name} is ${__ENV[name]}, but must be a positive number`);
  }
  return value;
}

export const URL = (__ENV.URL || 'http://127.0.0.1:8000').replace(/\/+$/, '');
export const ROWS = number('ROWS', 100);
const RATE = number('RATE', 100);
const USERS = number('USERS', 50);
const MAX_P99_MS = number('MAX_P99_MS', 100);
const DURATION = __ENV.DURATION || '30s';

// One kind of request: its function, and its share of the rate.
function arrivals(exec, share) {
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate: Math.max(1, Math.round(RATE * share * 10)),
    timeUnit: '10s',
    duration: DURATION,
    preAllocatedVUs: Math.max(1, Math.round(USERS * share)),
    gracefulStop: '10s',
  };
}

// The options of a script whose requests take `duration`, the name of a metric.
export function options(duration) {
  const kinds = { predict: 0.8, batch_predict: 0.1, health: 0.1 };
  const scenarios = {};
  const thresholds = { dropped_iterations: ['count<1'] };
  for (const [kind, share] of Object.entries(kinds)) {
    scenarios[kind] = arrivals(kind, share);
    thresholds[`checks{scenario:${kind}}`] = ['rate>0.99'];
    thresholds[`iterations{scenario:${kind}}`] = ['count>0'];
    thresholds[`${duration}{scenario:${kind}}`] = [`p(99)<${MAX_P99_MS}`];
  }
  return { scenarios, thresholds };
}

function told(path) {
  const reply = http.get(`${URL}${path}`, { tags: { scenario: 'setup' } });
  if (reply.status !== 200) {
    throw new Error(`GET ${URL}${path}: ${reply.status} ${reply.error || reply.body}`);
  }
  return reply.json();
}

// The model that is asked, and the example of a row that the server tells: as an object, and as
// values in the order of the signature, which objects lose on their way from setup to the users.
export function learn() {
  const name = __ENV.MODEL || told('/models').default_model;
  if (!name) {
    throw new Error('the server has no default model: name one with -e MODEL=NAME');
  }
  const model = told(`/models/${name}`);
  const { signature } = model.versions.find((one) => one.version === model.version);
  const features = signature.inputs.map((input) => model.example[input.name]);
  return { model: name, example: model.example, features };
}
