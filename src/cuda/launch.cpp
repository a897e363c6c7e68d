#include "cuda/launch.h"

#include "cuda/driver.h"

namespace switchyard::cuda {

void launch(CUfunction function, const LaunchShape& shape, const void* parameter, CUstream stream) {
  const auto& [grid, block, cluster, smem_bytes, overlap_previous] = shape;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;

  CUlaunchAttribute attributes[2];
  unsigned count = 0;
  if (cluster != Dim3{}) {
    CUlaunchAttribute& attribute = attributes[count++];
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim = {cluster.x, cluster.y, cluster.z};
  }
  if (overlap_previous) {
    CUlaunchAttribute& attribute = attributes[count++];
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
  }
  const CUlaunchConfig config = {.gridDimX = grid.x,
                                 .gridDimY = grid.y,
                                 .gridDimZ = grid.z,
                                 .blockDimX = block.x,
                                 .blockDimY = block.y,
                                 .blockDimZ = block.z,
                                 .sharedMemBytes = static_cast<unsigned>(smem_bytes),
                                 .hStream = stream,
                                 .attrs = attributes,
                                 .numAttrs = count};
  void* parameters[] = {const_cast<void*>(parameter)};
  SWITCHYARD_CU(driver().cuLaunchKernelEx(&config, function, parameters, nullptr));
}

}  // namespace switchyard::cuda
