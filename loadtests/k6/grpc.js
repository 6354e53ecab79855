// An open loop over gRPC: prediction.PredictionService, for models whose inputs are numbers.
//
//   k6 run --no-usage-report -e URL=http://127.0.0.1:8000 -e RATE=200 loadtests/k6/grpc.js
//
// The server's reflection tells the messages. It ends with 99 when a threshold is missed;
// settings.js has the settings.
import { check } from 'k6';
import grpc from 'k6/net/grpc';
import { learn, options as chosen, ROWS, URL } from './settings.js';

export const options = chosen('grpc_req_duration');
export const setup = learn;

const client = new grpc.Client();
let connected = false;

function ask(data, call, message) {
  if (!connected) {
    const plaintext = !URL.startsWith('https:');
    client.connect(URL.replace(/^https?:\/\//, ''), { plaintext, reflect: true, timeout: '10s' });
    connected = true;
  }
  const params = { timeout: '10s', metadata: { 'model-name': data.model } };
  return client.invoke(`prediction.PredictionService/${call}`, message, params);
}

export function predict(data) {
  const reply = ask(data, 'Predict', { features: data.features });
  check(reply, {
    'a prediction': (r) => r.status === grpc.StatusOK && r.message.modelVersion !== '',
  });
}

export function batch_predict(data) {
  const row = { features: data.features };
  const reply = ask(data, 'BatchPredict', { instances: Array(ROWS).fill(row) });
  check(reply, {
    'a prediction for each row': (r) =>
      r.status === grpc.StatusOK && r.message.predictions.length === ROWS,
  });
}

export function health(data) {
  const reply = ask(data, 'HealthCheck', {});
  check(reply, { ready: (r) => r.status === grpc.StatusOK && r.message.modelLoaded });
}
