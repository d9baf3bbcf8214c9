package tool

import "github.com/nsq-suite/nsq/go-nsq"

// Connect connects the Consumer to the source. The first nsqd that cannot be
// reached is an error; an nsqlookupd that cannot is only logged, and asked again.
func (s *Source) Connect(c *nsq.Consumer) error {
	for _, addr := range s.NSQDTCPAddresses {
		if err := c.ConnectToNSQD(addr); err != nil {
			return err
		}
	}
	return c.ConnectToNSQLookupds(s.LookupdHTTPAddresses)
}

// Consumers are the Consumers of a tool.
type Consumers []*nsq.Consumer

// Stop stops all and waits until each has answered what it had received, or for
// 30 s.
func (cs Consumers) Stop() {
	for _, c := range cs {
		c.Stop()
	}
	for _, c := range cs {
		<-c.StopChan
	}
}
