#include <cuda_runtime.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cmath>
#include <vector>
#include <algorithm>
#include <string>
__device__ unsigned long long g_stamps[8][256];
#include "ops/dense_moe/kernel_sm90.cuh"
#include "ops/route/kernel.cuh"
using namespace switchyard;
__device__ unsigned long long stamps[4][256];
#define CK(x) do{cudaError_t e=(x); if(e!=cudaSuccess){printf("err %s line %d\n",cudaGetErrorString(e),__LINE__);exit(1);} }while(0)
__device__ __host__ inline u64 mix(u64 z){ z+=0x9E3779B97F4A7C15ull; z=(z^(z>>30))*0xBF58476D1CE4E5B9ull; z=(z^(z>>27))*0x94D049BB133111EBull; return z^(z>>31);}
__global__ void fill(u16* p, u64 n, float scale, u64 seed){ for(u64 i=blockIdx.x*(u64)blockDim.x+threadIdx.x;i<n;i+=(u64)gridDim.x*blockDim.x){ u64 r=mix(i+seed*0x1234567ull); float u=((r&0xffff)+((r>>16)&0xffff)+((r>>32)&0xffff)+((r>>48)&0xffff))/65536.f-2.f; float v=u*1.7f*scale; u32 b=__float_as_uint(v); p[i]=(u16)((b+0x8000)>>16);} }
__global__ void fillf(float* p, u64 n, float scale, u64 seed){ for(u64 i=blockIdx.x*(u64)blockDim.x+threadIdx.x;i<n;i+=(u64)gridDim.x*blockDim.x){ u64 r=mix(i+seed*0x1234567ull); float u=((r&0xffff)+((r>>16)&0xffff)+((r>>32)&0xffff)+((r>>48)&0xffff))/65536.f-2.f; p[i]=u*1.7f*scale;} }
__global__ void readk(const uint4* p, u64 n, u32* out){ uint4 a={0,0,0,0}; u64 i=blockIdx.x*(u64)blockDim.x+threadIdx.x, st=(u64)gridDim.x*blockDim.x; for(;i+3*st<n;i+=4*st){ uint4 x=__ldcs(p+i),y=__ldcs(p+i+st),z=__ldcs(p+i+2*st),w=__ldcs(p+i+3*st); a.x^=x.x^y.y^z.z^w.w; a.y^=x.y^y.x^z.w^w.z;} if((a.x^a.y)==0x12345) *out=1; }
__device__ float bf(u16 b){ return __uint_as_float((u32)b<<16);}
__device__ float wtile(const u8* base, i64 tile0, int kt, int row, int k){ const u8* t=base+(tile0*kt + k/64)*16384; return bf(*(const u16*)(t+row*128+((((k%64)/8)^(row&7))<<4)+(k%8)*2)); }
struct Ref { const u16* x; const u8 *w1,*w2; const int* ids; const float* wt; float* h; float* out; int T,H,I,K,rt1,kt1,rt2,kt2; int act; float alpha,beta,limit; };
__global__ void ref1(Ref r){ int i=blockIdx.x*blockDim.x+threadIdx.x; int pair=blockIdx.y; if(i>=r.I) return; int e=r.ids[pair], t=pair/r.K; float g=0,u=0; int rt=i/64, row=((i%64)/8)*16+i%8; i64 tile=(i64)e*r.rt1+rt;
  for(int k=0;k<r.H;k++){ float x=bf(r.x[(i64)t*r.H+k]); g+=x*wtile(r.w1,tile,r.kt1,row,k); u+=x*wtile(r.w1,tile,r.kt1,row+8,k);} 
  float y; if(r.act==1){ g=fminf(g,r.limit); u=fminf(fmaxf(u,-r.limit),r.limit); y=g/(1+expf(-r.alpha*g))*(u+r.beta);} else y=g/(1+expf(-g))*u; 
  r.h[(i64)pair*r.I+i]=y*r.wt[pair]; }
__global__ void ref2(Ref r){ int o=blockIdx.x*blockDim.x+threadIdx.x; int t=blockIdx.y; if(o>=r.H) return; float s=0; for(int j=0;j<r.K;j++){ int e=r.ids[t*r.K+j]; i64 tile=(i64)e*r.rt2+o/128; for(int k=0;k<r.I;k++) s+=r.h[(i64)(t*r.K+j)*r.I+k]*wtile(r.w2,tile,r.kt2,o%128,k);} r.out[(i64)t*r.H+o]=s; }
struct Preset{ const char*name; int H,I,E,K; bool ds,oai; };
typedef void (*DK)(const dense_moe::Args);
typedef void (*RK)(const route::Args);
template<int N,int B,int S,bool O> __global__ void __launch_bounds__(384,1) dwrap(const __grid_constant__ dense_moe::Args a){ dense_moe::kernel<dense_moe::Config{N,B,S,O?dense_moe::Activation::swiglu_oai:dense_moe::Activation::swiglu,false}>(a);}
template<int K,int P,int S,int Z,int G,int TG,int BL> __global__ void __launch_bounds__(1024,1) rwrap(const __grid_constant__ route::Args a){ route::kernel<route::Config{K,P,(route::Score)S,(route::Normalize)Z,G,TG,G>1?32*P/G:0,false,BL}>(a);}
template<int N,int B,int S> DK dk(bool oai,int& sm){ constexpr dense_moe::Config c{N,B,S,dense_moe::Activation::swiglu,false}; sm=c.smem_bytes(); return oai? (DK)dwrap<N,B,S,true> : (DK)dwrap<N,B,S,false>; }
int main(int argc,char**argv){
  int sms; CK(cudaDeviceGetAttribute(&sms,cudaDevAttrMultiProcessorCount,0)); 
  std::vector<Preset> ps={{"deepseek-v3-tp8",7168,256,256,8,true,false},{"qwen3-30b-a3b",2048,768,128,8,false,false}};
  u32* sink; CK(cudaMalloc(&sink,4));
  { uint4* b; u64 n=4ull<<30; CK(cudaMalloc(&b,n)); fill<<<1024,256>>>((u16*)b,n/2,1,1); cudaEvent_t a,c; cudaEventCreate(&a);cudaEventCreate(&c); float best=1e9; for(int i=0;i<5;i++){ cudaEventRecord(a); readk<<<132*8,512>>>(b,n/16,sink); cudaEventRecord(c); CK(cudaDeviceSynchronize()); float ms; cudaEventElapsedTime(&ms,a,c); best=fminf(best,ms);} printf("read ceiling %.3f TB/s\n",n/best/1e9); CK(cudaFree(b)); }
  for(auto&p:ps){
    int rt1=(2*p.I+127)/128, kt1=(p.H+63)/64, rt2=(p.H+127)/128, kt2=(p.I+63)/64;
    u64 b1=(u64)p.E*rt1*kt1*16384, b2=(u64)p.E*rt2*kt2*16384; u8 *w1,*w2; CK(cudaMalloc(&w1,b1)); CK(cudaMalloc(&w2,b2));
    fill<<<2048,256>>>((u16*)w1,b1/2,1/sqrtf(p.H),7); fill<<<2048,256>>>((u16*)w2,b2/2,1/sqrtf(p.I),9);
    for(int M:{1,2,8,32}) for(int ST:{6}){
      const int SETS=8; int N=M<=8?8:M<=16?16:M<=32?32:M<=64?64:128;
      u16 *x,*out,*act; float *lg,*wt,*rw,*part; int *ids,*ac,*ae,*of,*rk; uint4* to; u32* fl;
      CK(cudaMalloc(&x,(u64)M*p.H*2)); CK(cudaMalloc(&out,(u64)M*p.H*2)); CK(cudaMalloc(&act,(u64)M*p.K*rt1*64*2)); CK(cudaMalloc(&lg,(u64)SETS*M*p.E*4)); CK(cudaMalloc(&wt,M*p.K*4)); CK(cudaMalloc(&rw,M*p.K*4)); CK(cudaMalloc(&part,(u64)sms*128*128*4)); CK(cudaMalloc(&ids,M*p.K*4)); CK(cudaMalloc(&ac,4)); CK(cudaMalloc(&ae,8192)); CK(cudaMalloc(&of,8192)); CK(cudaMalloc(&rk,M*p.K*4)); CK(cudaMalloc(&to,p.E*16)); CK(cudaMalloc(&fl,(sms+1)*4));
      CK(cudaMemset(act,0xff,(u64)M*p.K*rt1*64*2));
      fill<<<64,256>>>(x,(u64)M*p.H,1,M); fillf<<<64,256>>>(lg,(u64)SETS*M*p.E,1.5f,M+100);
      DK k; int smem; bool o=p.oai; int BL=N; 
      if(N==8) k= ST==4?dk<8,8,4>(o,smem):ST==6?dk<8,8,6>(o,smem):ST==9?dk<8,8,9>(o,smem):dk<8,8,12>(o,smem);
      else k= ST==4?dk<32,32,4>(o,smem):ST==6?dk<32,32,6>(o,smem):dk<32,32,9>(o,smem);
      CK(cudaFuncSetAttribute(k,cudaFuncAttributeMaxDynamicSharedMemorySize,smem));
      using route::Score; using route::Normalize;
#define R_(BL) (p.ds? (RK)rwrap<8,8,1,1,8,4,BL> : p.K==8? (RK)rwrap<8,4,0,1,1,1,BL> : p.K==2? (RK)rwrap<2,1,0,1,1,1,BL> : (RK)rwrap<4,4,3,2,1,1,BL>)
      RK r = BL==8?R_(8):BL==16?R_(16):BL==32?R_(32):R_(64);
      int rsm = p.ds? 32*p.E*4:0; if(rsm) CK(cudaFuncSetAttribute(r,cudaFuncAttributeMaxDynamicSharedMemorySize,rsm));
      route::Args ra{lg,nullptr,nullptr,nullptr,ids,wt,ac,ae,of,rk,rw,fl,M,p.E,sms+1,p.ds?2.5f:1.f};
      dense_moe::Args da{x,w1,w2,nullptr,nullptr,ac,ae,of,rk,rw,act,out,part,fl,fl+sms,M,p.H,p.I,rt1,kt1,rt2,kt2,1.702f,1.f,7.f};
      cudaStream_t s; CK(cudaStreamCreate(&s));
      auto launch=[&](int set){ ra.logits=lg+(u64)set*M*p.E; r<<<1,1024,rsm,s>>>(ra); cudaLaunchConfig_t c{}; c.gridDim=sms; c.blockDim=384; c.dynamicSmemBytes=smem; c.stream=s; cudaLaunchAttribute at[1]; at[0].id=cudaLaunchAttributeProgrammaticStreamSerialization; at[0].val.programmaticStreamSerializationAllowed=1; c.attrs=at; c.numAttrs=1; CK(cudaLaunchKernelEx(&c,k,(const dense_moe::Args)da)); };
      // check
      CK(cudaMemset(out,0xff,(u64)M*p.H*2)); launch(0); CK(cudaStreamSynchronize(s));
      std::vector<u16> o1((u64)M*p.H),o2(o1.size()); CK(cudaMemcpy(o1.data(),out,o1.size()*2,cudaMemcpyDeviceToHost));
      int na; double act_avg=0; 
      float*rh,*ro; CK(cudaMalloc(&rh,(u64)M*p.K*p.I*4)); CK(cudaMalloc(&ro,(u64)M*p.H*4));
      Ref rf{x,w1,w2,ids,wt,rh,ro,M,p.H,p.I,p.K,rt1,kt1,rt2,kt2,p.oai,1.702f,1.f,7.f};
      double e2=0,n2=0; 
      if(ST==4&&(M<=8&&p.I<4000)){ ref1<<<dim3((p.I+127)/128,M*p.K),128>>>(rf); ref2<<<dim3((p.H+127)/128,M),128>>>(rf); CK(cudaDeviceSynchronize());
      std::vector<float> rr(o1.size()); CK(cudaMemcpy(rr.data(),ro,rr.size()*4,cudaMemcpyDeviceToHost));
      for(size_t i=0;i<rr.size();i++){ u32 b=(u32)o1[i]<<16; float v; memcpy(&v,&b,4); e2+=(v-rr[i])*(double)(v-rr[i]); n2+=(double)rr[i]*rr[i]; } }
      CK(cudaMemset(out,0xee,(u64)M*p.H*2)); launch(0); CK(cudaStreamSynchronize(s)); CK(cudaMemcpy(o2.data(),out,o1.size()*2,cudaMemcpyDeviceToHost)); bool same=o1==o2;
      for(int q=0;q<SETS;q++){ launch(q); CK(cudaStreamSynchronize(s)); CK(cudaMemcpy(&na,ac,4,cudaMemcpyDeviceToHost)); act_avg+=na/(double)SETS; }
      if(M<=32){ static unsigned long long h[8][256]; CK(cudaMemcpyFromSymbol(h,g_stamps,sizeof h)); unsigned long long t0=h[4][0]; auto mx=[&](int i){unsigned long long m=0;for(int c=0;c<sms;c++)m=std::max(m,h[i][c]);return (double)(m-t0)/1000;}; auto mn=[&](int i){unsigned long long m=~0ull;for(int c=0;c<sms;c++)m=std::min(m,h[i][c]);return ((double)m-(double)t0)/1000;};
        printf("   stamps us from route start: route end %.1f | dense start %.1f..%.1f | lists read %.1f..%.1f | mult1 end %.1f..%.1f phase1 end %.1f..%.1f | grid passed %.1f..%.1f | phase2 end %.1f..%.1f\n",(h[5][0]-t0)/1000.0,mn(0),mx(0),mn(1),mx(1),mn(6),mx(6),mn(2),mx(2),mn(7),mx(7),mn(3),mx(3)); }
      cudaGraph_t g; cudaGraphExec_t ge; CK(cudaStreamBeginCapture(s,cudaStreamCaptureModeGlobal)); for(int q=0;q<SETS;q++) launch(q); CK(cudaStreamEndCapture(s,&g)); CK(cudaGraphInstantiate(&ge,g,0));
      std::vector<float> ts; cudaEvent_t a,c; cudaEventCreate(&a);cudaEventCreate(&c); for(int q=0;q<12;q++){ cudaEventRecord(a,s); CK(cudaGraphLaunch(ge,s)); cudaEventRecord(c,s); CK(cudaStreamSynchronize(s)); float ms; cudaEventElapsedTime(&ms,a,c); if(q>1) ts.push_back(ms*1000/SETS);} std::sort(ts.begin(),ts.end());
      double bytes=act_avg*3.0*p.H*p.I*2; double fl_us=bytes/4.65e6; 
      printf("%-16s M=%-4d ST=%-2d active %.1f  median %.1f us (p10 %.1f p90 %.1f) floor %.1f eff %.3f  rel err %.2e same %d\n",p.name,M,ST,act_avg,ts[ts.size()/2],ts[1],ts[ts.size()-2],fl_us,fl_us/ts[ts.size()/2],n2>0?sqrt(e2/n2):-1,same); fflush(stdout);
      for(void*q:{(void*)x,(void*)out,(void*)act,(void*)lg,(void*)wt,(void*)rw,(void*)part,(void*)ids,(void*)ac,(void*)ae,(void*)of,(void*)rk,(void*)to,(void*)fl,(void*)rh,(void*)ro}) CK(cudaFree(q)); cudaGraphExecDestroy(ge); cudaGraphDestroy(g);
    }
    CK(cudaFree(w1)); CK(cudaFree(w2));
  }
}
