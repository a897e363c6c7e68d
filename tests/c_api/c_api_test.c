/* The C API as a C program uses it: c_api_test CHECKPOINT. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <switchyard/c_api.h>

static int failures = 0;

#define CHECK(condition)                                     \
  do {                                                       \
    if (!(condition)) {                                      \
      printf("c_api_test.c:%d: %s\n", __LINE__, #condition); \
      printf("  last error: %s\n", switchyard_last_error()); \
      ++failures;                                            \
    }                                                        \
  } while (0)

/* The call fails with `status` and a sentence that contains `text`. */
#define REFUSED(call, status, text) \
  CHECK((call) == (status) && strstr(switchyard_last_error(), (text)) != NULL)

enum { kTokens = 3, kHidden = 4, kIntermediate = 2, kExperts = 2 };

typedef struct Array {
  SwitchyardTensor tensor;
  int64_t shape[3];
} Array;

static SwitchyardTensor* array(Array* a, void* data, uint8_t code, uint8_t bits, int64_t first,
                               int64_t second, int64_t third) {
  memset(a, 0, sizeof *a);
  a->shape[0] = first;
  a->shape[1] = second;
  a->shape[2] = third;
  a->tensor.data = data;
  a->tensor.device.type = 1;
  a->tensor.ndim = third > 0 ? 3 : second > 0 ? 2 : 1;
  a->tensor.dtype.code = code;
  a->tensor.dtype.bits = bits;
  a->tensor.dtype.lanes = 1;
  a->tensor.shape = a->shape;
  return &a->tensor;
}

static SwitchyardTensor* floats(Array* a, float* data, int64_t first, int64_t second,
                                int64_t third) {
  return array(a, data, 2, 32, first, second, third);
}

static SwitchyardConfig* small_config(void) {
  SwitchyardConfig* config = NULL;
  CHECK(switchyard_config_parse("moe h4 i2 e2 k1 swiglu topk act=f32", NULL, 0, &config) ==
        SWITCHYARD_OK);
  return config;
}

/* gate_up and down of small numbers: w[i] = (i % 7 - 3) / 4. */
static SwitchyardWeights* small_weights(float* gate_up, float* down) {
  SwitchyardWeights* weights = NULL;
  Array a;
  for (int i = 0; i < kExperts * 2 * kIntermediate * kHidden; ++i)
    gate_up[i] = (float)(i % 7 - 3) / 4;
  for (int i = 0; i < kExperts * kHidden * kIntermediate; ++i) down[i] = (float)(i % 5 - 2) / 2;
  CHECK(switchyard_weights_create(&weights) == SWITCHYARD_OK);
  CHECK(switchyard_weights_set_format(weights, "experts.gate_up", "f32") == SWITCHYARD_OK);
  CHECK(switchyard_weights_set_format(weights, "experts.down", "f32") == SWITCHYARD_OK);
  CHECK(switchyard_weights_set(weights, "experts.gate_up.elements",
                               floats(&a, gate_up, kExperts, 2 * kIntermediate, kHidden)) ==
        SWITCHYARD_OK);
  CHECK(switchyard_weights_set(weights, "experts.down.elements",
                               floats(&a, down, kExperts, kHidden, kIntermediate)) ==
        SWITCHYARD_OK);
  return weights;
}

/* weight * down . (silu(gate . x) * (up . x)) of one expert, element h. */
static double expected(const float* gate_up, const float* down, const float* x, int expert,
                       double weight, int h) {
  double sum = 0;
  for (int i = 0; i < kIntermediate; ++i) {
    double g = 0, u = 0;
    for (int c = 0; c < kHidden; ++c) {
      g += (double)gate_up[(expert * 2 * kIntermediate + i) * kHidden + c] * (double)x[c];
      u += (double)gate_up[(expert * 2 * kIntermediate + kIntermediate + i) * kHidden + c] *
           (double)x[c];
    }
    sum += (double)down[(expert * kHidden + h) * kIntermediate + i] * g / (1 + exp(-g)) * u;
  }
  return weight * sum;
}

static void test_layer(void) {
  float gate_up[kExperts * 2 * kIntermediate * kHidden], down[kExperts * kHidden * kIntermediate];
  SwitchyardConfig* const config = small_config();
  SwitchyardWeights* const weights = small_weights(gate_up, down);
  SwitchyardLayer* layer = NULL;
  SwitchyardPlan* plan = NULL;
  int max_tokens = 0;
  size_t bytes = 0;

  REFUSED(switchyard_layer_create(config, weights, "gpu", 1, &layer), SWITCHYARD_INVALID_ARGUMENT,
          "expected cpu, cuda or cuda:N, got 'gpu'");
  CHECK(switchyard_layer_create(config, weights, "cpu", 1, &layer) == SWITCHYARD_OK);
  SwitchyardLayer* second = NULL;
  REFUSED(switchyard_layer_create(config, weights, "cpu", 1, &second), SWITCHYARD_INVALID_ARGUMENT,
          "takes its weights over");
  CHECK(second == NULL);
  CHECK(switchyard_plan_create(layer, 8, &plan) == SWITCHYARD_OK);
  CHECK(switchyard_plan_info(plan, &max_tokens, &bytes) == SWITCHYARD_OK);
  CHECK(max_tokens == 8 && bytes > 0);
  switchyard_layer_destroy(layer); /* a plan keeps what it needs */

  float x[kTokens * kHidden], out[kTokens * kHidden], weight[kTokens] = {1, 0.5F, 2};
  int32_t ids[kTokens] = {1, 0, -1};
  for (int i = 0; i < kTokens * kHidden; ++i) x[i] = (float)(i % 3) - 0.5F;
  void* const workspace = aligned_alloc(64, (bytes + 63) / 64 * 64);
  Array tokens, chosen, chosen_weights, result, space;
  SwitchyardCall call = {.struct_size = sizeof call};
  call.tokens = floats(&tokens, x, kTokens, kHidden, 0);
  call.expert_ids = array(&chosen, ids, 0, 32, kTokens, 1, 0);
  call.expert_weights = floats(&chosen_weights, weight, kTokens, 1, 0);
  call.out = floats(&result, out, kTokens, kHidden, 0);
  call.workspace = array(&space, workspace, 1, 8, (int64_t)bytes, 0, 0);
  int64_t counters[3] = {7, 7, 7};
  CHECK(switchyard_plan_run(plan, &call, counters) == SWITCHYARD_OK);
  CHECK(counters[0] == 0 && counters[1] == 0 && counters[2] == 0);
  for (int t = 0; t < kTokens; ++t)
    for (int h = 0; h < kHidden; ++h) {
      const double want =
          ids[t] < 0 ? 0 : expected(gate_up, down, x + t * kHidden, ids[t], (double)weight[t], h);
      CHECK(fabs((double)out[t * kHidden + h] - want) < 1e-5);
    }

  int64_t strides[2] = {1, kTokens};
  tokens.tensor.strides = strides;
  REFUSED(switchyard_plan_run(plan, &call, NULL), SWITCHYARD_INVALID_ARGUMENT,
          "tokens: expected a contiguous row-major array, got shape [3, 4] with strides [1, 3]");
  tokens.tensor.strides = NULL;
  chosen.tensor.dtype.bits = 64;
  REFUSED(switchyard_plan_run(plan, &call, NULL), SWITCHYARD_INVALID_ARGUMENT,
          "expert_ids: expected i32, got i64");
  chosen.tensor.dtype.bits = 32;
  tokens.tensor.device.type = 2;
  REFUSED(switchyard_plan_run(plan, &call, NULL), SWITCHYARD_INVALID_ARGUMENT,
          "tokens: expected an array in host memory");
  tokens.tensor.device.type = 1;
  REFUSED(switchyard_plan_enqueue(plan, &call, NULL), SWITCHYARD_INVALID_ARGUMENT,
          "expected a layer on a GPU");
  call.struct_size = 8;
  REFUSED(switchyard_plan_run(plan, &call, NULL), SWITCHYARD_INVALID_ARGUMENT, "struct_size");
  REFUSED(switchyard_plan_run(plan, NULL, NULL), SWITCHYARD_INVALID_ARGUMENT, "got NULL");

  char* text = NULL;
  CHECK(switchyard_plan_explain(plan, &text) == SWITCHYARD_OK && strstr(text, "cpu") != NULL);
  switchyard_text_free(text);
  free(workspace);
  switchyard_plan_destroy(plan);
  switchyard_weights_destroy(weights);
  switchyard_config_destroy(config);
}

/* Quantised weights come back as bytes, and go in again as the same matrix. */
static void test_bytes(void) {
  float values[2 * 4 * 32], first[2 * 4 * 32], second[2 * 4 * 32];
  Array a;
  for (int i = 0; i < 2 * 4 * 32; ++i) values[i] = (float)(i % 11) - 5;
  SwitchyardWeights *one = NULL, *two = NULL;
  CHECK(switchyard_weights_create(&one) == SWITCHYARD_OK);
  CHECK(switchyard_weights_create(&two) == SWITCHYARD_OK);
  CHECK(switchyard_weights_quantize(one, "experts.down", floats(&a, values, 2, 4, 32), "mxfp4",
                                    1) == SWITCHYARD_OK);
  CHECK(switchyard_weights_set_format(two, "experts.down", "mxfp4") == SWITCHYARD_OK);

  SwitchyardTensor view;
  CHECK(switchyard_weights_get(one, "experts.down.elements", &view) == SWITCHYARD_OK);
  CHECK(view.dtype.bits == 4 && view.ndim == 3 && view.shape[2] == 32);
  CHECK(switchyard_weights_set(two, "experts.down.elements",
                               array(&a, view.data, 1, 8, 2, 4, 16)) == SWITCHYARD_OK);
  CHECK(switchyard_weights_get(one, "experts.down.scales", &view) == SWITCHYARD_OK);
  CHECK(view.dtype.code == 14 && view.shape[2] == 1);
  CHECK(switchyard_weights_set(two, "experts.down.scales", array(&a, view.data, 1, 8, 2, 4, 1)) ==
        SWITCHYARD_OK);
  CHECK(switchyard_weights_get(one, "experts.down.bias", &view) == SWITCHYARD_OK);
  CHECK(view.data == NULL);

  char* format = NULL;
  CHECK(switchyard_weights_format(two, "experts.down", &format) == SWITCHYARD_OK);
  CHECK(strcmp(format, "mxfp4") == 0);
  switchyard_text_free(format);
  CHECK(switchyard_weights_dequantize(one, "experts.down", floats(&a, first, 2, 4, 32)) ==
        SWITCHYARD_OK);
  CHECK(switchyard_weights_dequantize(two, "experts.down", floats(&a, second, 2, 4, 32)) ==
        SWITCHYARD_OK);
  CHECK(memcmp(first, second, sizeof first) == 0);
  REFUSED(switchyard_weights_set(two, "experts.up", &view), SWITCHYARD_INVALID_ARGUMENT,
          "expected a tensor of MoeWeights");
  REFUSED(switchyard_weights_set_format(two, "experts.down", "nvfp5"), SWITCHYARD_INVALID_ARGUMENT,
          "nvfp5");
  switchyard_weights_destroy(one);
  switchyard_weights_destroy(two);
}

static void test_checkpoint(const char* directory) {
  SwitchyardCheckpoint* checkpoint = NULL;
  REFUSED(switchyard_checkpoint_open("/nowhere", &checkpoint), SWITCHYARD_INVALID_ARGUMENT,
          "/nowhere");
  CHECK(checkpoint == NULL);
  CHECK(switchyard_checkpoint_open(directory, &checkpoint) == SWITCHYARD_OK);
  const char* family = NULL;
  int64_t layers = 0;
  CHECK(switchyard_checkpoint_info(checkpoint, &family, &layers) == SWITCHYARD_OK);
  CHECK(strcmp(family, "qwen3_moe") == 0 && layers > 0);
  SwitchyardCheckpointLayer layer;
  CHECK(switchyard_checkpoint_layer(checkpoint, 0, &layer) == SWITCHYARD_OK);
  CHECK(strcmp(layer.gate_up, "nvfp4") == 0 && layer.expert_bytes > 0);
  REFUSED(switchyard_checkpoint_layer(checkpoint, layers, &layer), SWITCHYARD_INVALID_ARGUMENT,
          "index");

  SwitchyardConfig *whole = NULL, *part = NULL;
  SwitchyardConfigInfo info;
  CHECK(switchyard_checkpoint_config(checkpoint, layer.layer, NULL, NULL, &whole) == SWITCHYARD_OK);
  CHECK(switchyard_config_info(whole, &info) == SWITCHYARD_OK);
  CHECK(info.expert_map_entries == 0 && strstr(info.line, "nvfp4") != NULL);
  CHECK(switchyard_checkpoint_config(checkpoint, layer.layer, NULL, "1/2", &part) == SWITCHYARD_OK);
  CHECK(switchyard_config_info(part, &info) == SWITCHYARD_OK);
  CHECK(info.expert_map_entries == info.experts && info.expert_map[0] == -1);

  SwitchyardWeights* weights = NULL;
  SwitchyardTensor view;
  CHECK(switchyard_checkpoint_load(checkpoint, layer.layer, NULL, "1/2", &weights) ==
        SWITCHYARD_OK);
  CHECK(switchyard_weights_get(weights, "experts.gate_up.elements", &view) == SWITCHYARD_OK);
  CHECK(view.shape[0] == info.experts / 2);
  switchyard_weights_destroy(weights);
  switchyard_config_destroy(whole);
  switchyard_config_destroy(part);
  switchyard_checkpoint_destroy(checkpoint);
}

static void test_lines(void) {
  SwitchyardConfig* config = NULL;
  REFUSED(switchyard_config_parse("moe h4 i2 e2 k1 swigloo", NULL, 0, &config),
          SWITCHYARD_INVALID_ARGUMENT, "swiglu");
  REFUSED(switchyard_config_parse("moe h4 i2 e2 k1 ep=0/2", NULL, 0, &config),
          SWITCHYARD_INVALID_ARGUMENT, "expert_map");
  char* text = NULL;
  CHECK(switchyard_preset_names(&text) == SWITCHYARD_OK && strstr(text, "gpt-oss-20b\n") != NULL);
  switchyard_text_free(text);
  CHECK(switchyard_preset("mixtral-8x7b", 4, &text) == SWITCHYARD_OK);
  CHECK(strncmp(text, "moe t4 h4096 i14336 e8 k2", 25) == 0);
  switchyard_text_free(text);
  REFUSED(switchyard_tune("moe t8 h4 i2 e2 k1\nmoe t8 h4 i2 e2 k1 swigloo", NULL, 0, NULL),
          SWITCHYARD_INVALID_ARGUMENT, "swiglu");
  SwitchyardCheckReport report;
  CHECK(switchyard_check("moe t4 h64 i32 e4 k2 mxfp4", 1, "cpu", &report) == SWITCHYARD_OK);
  CHECK(report.passed && report.error_ratio <= 2);

  float logits[6] = {1, 3, 2, 0, -1, 5}, weights[3 * 2];
  int32_t ids[2 * 1];
  Array l, i, w;
  CHECK(switchyard_config_parse("moe h4 i2 e3 k1 topk", NULL, 0, &config) == SWITCHYARD_OK);
  CHECK(switchyard_route(config, floats(&l, logits, 2, 3, 0), NULL, array(&i, ids, 0, 32, 2, 1, 0),
                         floats(&w, weights, 2, 1, 0)) == SWITCHYARD_OK);
  CHECK(ids[0] == 1 && ids[1] == 2 && weights[0] == 3 && weights[1] == 5);
  switchyard_config_destroy(config);
}

/* Two tokens, two experts of [1, 2], the second without a token: the second token has one slot. */
static void test_single_operations(void) {
  int32_t ids[4] = {0, 0, -1, 0}, rows[4];
  int64_t offsets[3];
  float x[4] = {1, 2, 3, 4}, matrix[4] = {10, 1, 7, 7}, products[3], slots[4] = {1, 2, 9, 4},
        out[2];
  Array i, r, o, a, m, p, w, y;
  CHECK(switchyard_group_by_expert(array(&i, ids, 0, 32, 2, 2, 0),
                                   array(&o, offsets, 0, 64, 3, 0, 0),
                                   array(&r, rows, 0, 32, 4, 0, 0)) == SWITCHYARD_OK);
  CHECK(offsets[1] == 3 && offsets[2] == 3 && rows[0] == 0 && rows[1] == 1 && rows[2] == 3);
  SwitchyardWeights* weights = NULL;
  CHECK(switchyard_weights_create(&weights) == SWITCHYARD_OK);
  CHECK(switchyard_weights_set_format(weights, "experts.down", "f32") == SWITCHYARD_OK);
  CHECK(switchyard_weights_set(weights, "experts.down.elements", floats(&m, matrix, 2, 1, 2)) ==
        SWITCHYARD_OK);
  array(&r, rows, 0, 32, 3, 0, 0);
  CHECK(switchyard_grouped_gemm(weights, "experts.down", NULL, 2, floats(&a, x, 2, 2, 0), &o.tensor,
                                &r.tensor, floats(&p, products, 3, 1, 0)) == SWITCHYARD_OK);
  CHECK(products[0] == 12 && products[1] == 12 && products[2] == 34);
  CHECK(switchyard_finalize(&p.tensor, &r.tensor, floats(&w, slots, 2, 2, 0),
                            floats(&y, out, 2, 1, 0)) == SWITCHYARD_OK);
  CHECK(out[0] == 36 && out[1] == 136);
  REFUSED(switchyard_grouped_gemm(weights, "experts.up", NULL, 2, &a.tensor, &o.tensor, &r.tensor,
                                  &p.tensor),
          SWITCHYARD_INVALID_ARGUMENT, "experts.gate_up, experts.down");
  switchyard_weights_destroy(weights);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  CHECK(switchyard_c_api_version() == SWITCHYARD_C_API_VERSION);
  test_layer();
  test_bytes();
  test_checkpoint(argv[1]);
  test_lines();
  test_single_operations();
  switchyard_config_destroy(NULL);
  switchyard_weights_destroy(NULL);
  printf("c_api: %s\n", failures == 0 ? "passed" : "FAILED");
  return failures == 0 ? 0 : 1;
}
