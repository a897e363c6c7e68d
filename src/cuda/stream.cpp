#include "cuda/stream.h"

#include "cuda/driver.h"

namespace switchyard::cuda {

// Refusals are ignored: at process exit the driver may be gone and has destroyed everything.
CUresult destroy(CUstream stream) noexcept {
  return driver().cuStreamDestroy_v2(stream);
}

CUresult destroy(CUevent event) noexcept {
  return driver().cuEventDestroy_v2(event);
}

CUresult destroy(CUgraphExec graph) noexcept {
  return driver().cuGraphExecDestroy(graph);
}

Stream::Stream(const Context& context) {
  const Current current(context);
  CUstream stream = nullptr;
  SWITCHYARD_CU(driver().cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  stream_ = {context, stream};
}

void Stream::synchronize() const {
  SWITCHYARD_CU(driver().cuStreamSynchronize(get()));
}

void Stream::wait(CUevent event) const {
  SWITCHYARD_CU(driver().cuStreamWaitEvent(get(), event, 0));
}

Event::Event(const Context& context, Timing timing) {
  const Current current(context);
  CUevent event = nullptr;
  SWITCHYARD_CU(driver().cuEventCreate(
      &event, timing == Timing::on ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING));
  event_ = {context, event};
}

void Event::record(CUstream stream) const {
  SWITCHYARD_CU(driver().cuEventRecord(get(), stream));
}

void Event::synchronize() const {
  SWITCHYARD_CU(driver().cuEventSynchronize(get()));
}

double elapsed_us(const Event& start, const Event& end) {
  end.synchronize();
  float ms = 0;
  SWITCHYARD_CU(driver().cuEventElapsedTime(&ms, start.get(), end.get()));
  return 1e3 * static_cast<double>(ms);
}

namespace {

/// Ends the capture of `stream` and owns the recorded graph until it is instantiated.
class Capture {
 public:
  explicit Capture(CUstream stream) : stream_(stream) {
    SWITCHYARD_CU(driver().cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    open_ = true;
  }
  ~Capture() {
    if (open_) driver().cuStreamEndCapture(stream_, &graph_);
    if (graph_ != nullptr) driver().cuGraphDestroy(graph_);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  CUgraph end() {
    open_ = false;
    SWITCHYARD_CU(driver().cuStreamEndCapture(stream_, &graph_));
    return graph_;
  }

 private:
  CUstream stream_;
  CUgraph graph_ = nullptr;
  bool open_ = false;
};

}  // namespace

Graph Graph::capture(const Context& context, CUstream stream, const std::function<void()>& body) {
  const Current current(context);
  Capture capture(stream);
  body();
  CUgraphExec graph = nullptr;
  SWITCHYARD_CU(driver().cuGraphInstantiateWithFlags(&graph, capture.end(), 0));
  return Graph({context, graph});
}

void Graph::launch(CUstream stream) const {
  SWITCHYARD_CU(driver().cuGraphLaunch(graph_.get(), stream));
}

}  // namespace switchyard::cuda
