// Package metrics serves what a daemon counts in the Prometheus text and
// OpenMetrics formats.
//
// [Handler] answers GET /metrics: with what the daemon adds to [Samples], and with
// what is the same in every program, the Go runtime, the process and
// <program>_build_info.
package metrics

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/nsq-suite/nsq/internal/version"
)

// Handler answers GET /metrics for the program of that name. For each scrape it
// calls gather, which adds the daemon's own families; calls overlap if scrapes do.
// What goes wrong is logged as WARNING: the scraper gets what there is.
func Handler(program string, log *slog.Logger, gather func(*Samples)) http.Handler {
	common := prometheus.NewRegistry()
	common.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerForTransactional(
		&gatherer{program: program, common: common, gather: gather},
		promhttp.HandlerOpts{
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
			ErrorHandling:     promhttp.ContinueOnError,
			EnableOpenMetrics: true,
		})
}

// A gatherer is the source of all families of one program. It stands in for a
// [prometheus.Registry] where there may be a hundred thousand samples: that one
// makes each of several objects, hashes its labels and compares it with all
// others, which costs several times what writing it does.
type gatherer struct {
	program string
	common  *prometheus.Registry
	gather  func(*Samples)
	memory  sync.Pool // of *Samples
}

// Gather implements [prometheus.TransactionalGatherer]. The samples are used again
// once done is called.
func (g *gatherer) Gather() (families []*dto.MetricFamily, done func(), err error) {
	s, ok := g.memory.Get().(*Samples)
	if !ok {
		s = new(Samples)
	}
	s.Gauge(g.program+"_build_info", "Always 1; the labels say what was built, and with which Go.").
		Add(1, NewLabels("goversion", runtime.Version(), "version", version.Number))
	g.gather(s)
	families, err = g.common.Gather()
	if err != nil {
		err = fmt.Errorf("gather metrics of the Go runtime and the process: %w", err)
	}
	families = append(families, s.families()...)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, func() {
		s.reset()
		g.memory.Put(s)
	}, err
}
