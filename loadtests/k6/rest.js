// An open loop over REST: one row, many rows, health.
//
//   k6 run --no-usage-report -e URL=http://127.0.0.1:8000 -e RATE=200 loadtests/k6/rest.js
//
// ends with 99 when a threshold is missed; settings.js has the settings.
import { check } from 'k6';
import http from 'k6/http';
import { learn, options as chosen, ROWS, URL } from './settings.js';

export const options = chosen('http_req_duration');
export const setup = learn;

const asJson = { headers: { 'Content-Type': 'application/json' }, timeout: '10s' };

function ask(data, call, body) {
  return http.post(`${URL}/models/${data.model}/${call}`, JSON.stringify(body), asJson);
}

export function predict(data) {
  const reply = ask(data, 'predict', data.example);
  check(reply, {
    'a prediction': (r) => r.status === 200 && r.json('prediction') !== undefined,
  });
}

export function batch_predict(data) {
  const reply = ask(data, 'batch_predict', { instances: Array(ROWS).fill(data.example) });
  check(reply, {
    'a prediction for each row': (r) => r.status === 200 && r.json('predictions').length === ROWS,
  });
}

export function health() {
  const reply = http.get(`${URL}/health/ready`, { timeout: '10s' });
  check(reply, { ready: (r) => r.status === 200 });
}
