/* The library for C, and for everything that can call C, in one file (which is why it is long).
 * Version 1.
 *
 * Handles are opaque; whoever creates one destroys it, and destroying NULL does nothing. Every
 * function that can fail returns a status; switchyard_last_error() then has the sentence, on the
 * same thread. What is returned through a pointer is written on success only. Arrays are the
 * caller's, outputs and workspace too: calls allocate nothing.
 *
 * Handles may be used from several threads at once, but weights while they are being filled. */
#ifndef SWITCHYARD_C_API_H_
#define SWITCHYARD_C_API_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SWITCHYARD_C_API_VERSION 1

enum SwitchyardStatus {
  SWITCHYARD_OK = 0,
  SWITCHYARD_INVALID_ARGUMENT = 1, /* the caller's mistake */
  SWITCHYARD_UNSUPPORTED = 2,      /* a limit of the library */
  SWITCHYARD_DEVICE_ERROR = 3,     /* memory, a file, a device */
  SWITCHYARD_INTERNAL = 4          /* a mistake of ours */
};

/* "0.1.0", and the SWITCHYARD_C_API_VERSION of the library that is linked: functions and fields are
 * only ever added within a version. */
const char* switchyard_version(void);
int switchyard_c_api_version(void);
/* Of the last call that failed on this thread; "" before that. Valid until the next failure. */
const char* switchyard_last_error(void);
/* For the texts that functions return as char*. */
void switchyard_text_free(char* text);

/* DLPack's DLTensor, field by field: a DLTensor* may be cast to it. Arrays are row-major without
 * gaps (strides NULL, or what they would be). Types and devices have DLPack's codes. 4- and 8-bit
 * floats may come as bytes (uint8, 4-bit ones two to a byte) where the type is known otherwise. */
typedef struct SwitchyardTensor {
  void* data;
  struct {
    int32_t type, id; /* 1 CPU, 2 CUDA, 3 CUDA host memory, 13 CUDA managed memory */
  } device;
  int32_t ndim;
  struct {
    uint8_t code, bits; /* 0 int, 1 unsigned, 2 float, 4 bfloat, 6 bool, 10 e4m3fn, 12 e5m2, ... */
    uint16_t lanes;
  } dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
} SwitchyardTensor;

typedef struct SwitchyardConfig SwitchyardConfig;
typedef struct SwitchyardWeights SwitchyardWeights;
typedef struct SwitchyardCheckpoint SwitchyardCheckpoint;
typedef struct SwitchyardLayer SwitchyardLayer;
typedef struct SwitchyardPlan SwitchyardPlan;

/* A layer's mathematics, as a problem line spells it (problem.h):
 * "moe h2048 i768 e128 k8 swiglu softmax_renormalize". Tokens, weight format, bias and load may
 * stand there and are not part of it; tp= and ep= may not. expert_map [experts] may be NULL. */
int switchyard_config_parse(const char* line, const int32_t* expert_map, int64_t entries,
                            SwitchyardConfig** config);
void switchyard_config_destroy(SwitchyardConfig* config);

typedef struct SwitchyardConfigInfo {
  int32_t hidden, latent, intermediate, experts, zero_experts, top_k, shared_intermediate;
  int32_t gated;    /* 1 if the activation has a gate: gate_up is [E, 2I, H] then */
  const char* line; /* lives as long as the config, as the next one */
  const int32_t* expert_map;
  int64_t expert_map_entries;
} SwitchyardConfigInfo;
int switchyard_config_info(const SwitchyardConfig* config, SwitchyardConfigInfo* info);

/* The tensors of MoeWeights (moe.h, weights.h) by name: "router", "router_bias", "correction_bias",
 * "hash_table", "shared_gate", "latent_down", "latent_norm", "latent_up", and for each matrix
 * "experts.gate_up", "experts.down", "shared.gate_up", "shared.down" its fields: ".elements",
 * ".scales", ".zeros", ".global_scale", ".group_of_column", ".bias", ".input_factor",
 * ".input_scale". */
int switchyard_weights_create(SwitchyardWeights** weights);
void switchyard_weights_destroy(SwitchyardWeights* weights);
int switchyard_weights_clone(const SwitchyardWeights* weights, SwitchyardWeights** clone);
/* A matrix's format ("nvfp4", ...; weights.h), before its tensors. */
int switchyard_weights_set_format(SwitchyardWeights* weights, const char* matrix,
                                  const char* format);
int switchyard_weights_format(const SwitchyardWeights* weights, const char* matrix, char** format);
/* Copies a host array. Bytes take the type that the matrix's format says; scales of another float
 * type change the format. */
int switchyard_weights_set(SwitchyardWeights* weights, const char* name,
                           const SwitchyardTensor* tensor);
/* A view that lives until the tensor is set again; data is NULL if there is none. */
int switchyard_weights_get(const SwitchyardWeights* weights, const char* name,
                           SwitchyardTensor* view);
/* Sets format and tensors of a matrix from [E, out, in] f32, bf16 or f16 host values; its bias
 * stays. `parts` global scales an expert (2 for gate and up), where the format has them. */
int switchyard_weights_quantize(SwitchyardWeights* weights, const char* matrix,
                                const SwitchyardTensor* values, const char* format, int parts);
/* Writes [E, out, in] f32, bf16, f16 or f64. */
int switchyard_weights_dequantize(const SwitchyardWeights* weights, const char* matrix,
                                  const SwitchyardTensor* out);

/* checkpoint.h. A part is "RANK/RANKS", or NULL for the whole. */
int switchyard_checkpoint_open(const char* directory, SwitchyardCheckpoint** checkpoint);
void switchyard_checkpoint_destroy(SwitchyardCheckpoint* checkpoint);

typedef struct SwitchyardCheckpointLayer {
  int32_t layer;
  const char* prefix; /* texts live as long as the checkpoint */
  const char* scheme;
  const char* gate_up; /* formats */
  const char* down;
  int64_t expert_bytes, other_bytes;
} SwitchyardCheckpointLayer;
int switchyard_checkpoint_info(const SwitchyardCheckpoint* checkpoint, const char** family,
                               int64_t* layers);
int switchyard_checkpoint_layer(const SwitchyardCheckpoint* checkpoint, int64_t index,
                                SwitchyardCheckpointLayer* layer);
int switchyard_checkpoint_config(const SwitchyardCheckpoint* checkpoint, int layer, const char* tp,
                                 const char* ep, SwitchyardConfig** config);
int switchyard_checkpoint_load(const SwitchyardCheckpoint* checkpoint, int layer, const char* tp,
                               const char* ep, SwitchyardWeights** weights);

/* device: "cpu", "cuda", "cuda:1". threads: CPU only, 0 for one per core. The layer takes the
 * weights over and leaves the handle without any, unless it fails. */
int switchyard_layer_create(const SwitchyardConfig* config, SwitchyardWeights* weights,
                            const char* device, int threads, SwitchyardLayer** layer);
void switchyard_layer_destroy(SwitchyardLayer* layer);

int switchyard_plan_create(const SwitchyardLayer* layer, int max_tokens, SwitchyardPlan** plan);
void switchyard_plan_destroy(SwitchyardPlan* plan);
int switchyard_plan_info(const SwitchyardPlan* plan, int* max_tokens, size_t* workspace_bytes);
int switchyard_plan_explain(const SwitchyardPlan* plan, char** text);

/* One call's arrays, MoeBuffers of moe.h; NULL where there is none. workspace is uint8 [bytes]. */
typedef struct SwitchyardCall {
  size_t struct_size; /* sizeof(SwitchyardCall) */
  const SwitchyardTensor *tokens, *router_logits, *expert_ids, *expert_weights, *input_ids;
  const SwitchyardTensor *out, *chosen_ids, *chosen_weights, *workspace;
  const SwitchyardTensor *token_count, *counters; /* only for enqueue */
} SwitchyardCall;

/* Host arrays; waits. counters [3], or NULL: bad expert ids, weights and logits that are not
 * finite. */
int switchyard_plan_run(const SwitchyardPlan* plan, const SwitchyardCall* call, int64_t* counters);
/* Arrays on the layer's GPU; enqueues on `stream` (a cudaStream_t) and returns. */
int switchyard_plan_enqueue(const SwitchyardPlan* plan, const SwitchyardCall* call, void* stream);

/* ops.h: expert_ids [T, K] i32 and expert_weights [T, K] f32 from logits [T, E], host arrays.
 * correction_bias [E] f32 may be NULL. */
int switchyard_route(const SwitchyardConfig* config, const SwitchyardTensor* logits,
                     const SwitchyardTensor* correction_bias, const SwitchyardTensor* expert_ids,
                     const SwitchyardTensor* expert_weights);

/* ops.h, for engines that send tokens to their experts themselves; host arrays. Slots of [T, K] ids
 * in the order of experts: offsets [E + 1] i64, rows [T K] i32 = token * K + slot, -1 behind them.
 */
int switchyard_group_by_expert(const SwitchyardTensor* expert_ids, const SwitchyardTensor* offsets,
                               const SwitchyardTensor* rows);
/* out [R, n] = x's rows times their expert's matrix, plus its bias; then the config's activation,
 * unless it is NULL. Row r reads x's row rows[r] / top_k, or r where rows is NULL. */
int switchyard_grouped_gemm(const SwitchyardWeights* weights, const char* matrix,
                            const SwitchyardConfig* activation, int top_k,
                            const SwitchyardTensor* x, const SwitchyardTensor* offsets,
                            const SwitchyardTensor* rows, const SwitchyardTensor* out);
/* out [T, H] = the sum over a token's slots of expert_weights [T, K] f32 * expert_out [R, H]. */
int switchyard_finalize(const SwitchyardTensor* expert_out, const SwitchyardTensor* rows,
                        const SwitchyardTensor* expert_weights, const SwitchyardTensor* out);

/* problem.h: a random case of a problem line, compared with the definition. */
typedef struct SwitchyardCheckReport {
  double error_ratio, max_abs_error, zeros; /* error_ratio: at most 2 passes */
  int32_t finite_match, repeatable, routing_exact, passed;
} SwitchyardCheckReport;
int switchyard_check(const char* line, uint64_t seed, const char* device,
                     SwitchyardCheckReport* report);
/* tuner.h: measures which variants serve these layers best (problem lines, one a line), in this
 * process, and adds picks to `file`, or where plans look if it is NULL. tuned: how many, or NULL.
 */
int switchyard_tune(const char* lines, const char* file, int device, int* tuned);
/* The problem line of a preset, and all names, one a line. */
int switchyard_preset(const char* name, int tokens, char** line);
int switchyard_preset_names(char** names);

#ifdef __cplusplus
}
#endif
#endif
