set -e
cd /work/wt/gpu
rm -rf /tmp/gen; mkdir -p /tmp/gen; cp -r src/device src/ops /tmp/gen/
find /tmp/gen -name '*.cuh' | xargs sed -i 's/__global__ void __launch_bounds__(Config::kThreads, 1) kernel(const __grid_constant__ Args args)/__device__ void kernel(const Args\& args)/'
find /tmp/gen -name '*.cuh' | xargs sed -i 's|//STAMP \([0-9]\)|if(threadIdx.x%128==0){unsigned long long t_; asm volatile("mov.u64 %0, %globaltimer;":"=l"(t_)); g_stamps[\1][blockIdx.x]=t_;}|'
find /tmp/gen -name '*.cuh' | xargs sed -i 's|//STAMP32 \([0-9]\)|unsigned long long t_; asm volatile("mov.u64 %0, %globaltimer;":"=l"(t_)); g_stamps[\1][blockIdx.x]=t_;|'
nvcc -O3 -std=c++20 --expt-relaxed-constexpr -gencode=arch=compute_90a,code=sm_90a -cudart static -I/tmp/gen -Xptxas -v -o /work/main/.proto/bench proto/$1.cu 2>&1 | grep -E "error|spill" | sort | uniq -c
