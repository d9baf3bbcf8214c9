package nsq

const serverEnv = "NSQ_BENCH_SERVER"

func runBenchServer() {}
