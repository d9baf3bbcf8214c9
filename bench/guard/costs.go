package main

import "fmt"

// Costs are what one message of a load costs nsqd.
type costs struct {
	allocations float64 // of memory, as the Go runtime counts them
	allocated   float64 // bytes
	kept        float64 // bytes of heap more at the end than before
	collections float64 // of garbage, in 100,000 messages
	cpu         float64 // time, in relation to that of the null server; 0 if not known
}

// lower returns the lower of each of the costs.
func (c costs) lower(o costs) costs {
	return costs{
		min(c.allocations, o.allocations), min(c.allocated, o.allocated), min(c.kept, o.kept),
		min(c.collections, o.collections), min(c.cpu, o.cpu),
	}
}

// header names the columns of String.
const header = "allocations  B allocated  B kept  GC/100k  CPU/null"

func (c costs) String() string {
	return fmt.Sprintf("%11.3f  %11.0f  %6.0f  %7.1f  %8.2f", c.allocations, c.allocated, c.kept, c.collections, c.cpu)
}
